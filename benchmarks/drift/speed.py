"""1,000 segments by 12 features in one sweep, against Evidently a segment, and against a raw scan of the same columns."""

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.drift.peers import run_evidently
from benchmarks.drift.world import LINE, START, keep_references, make_rows, open_window, write_rows
from benchmarks.figures import Figure, at_most
from factory_assets.contracts.drift_policy import DriftSpec
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.drift_windows import compare_window

SEGMENTS, FEATURES = 1000, 12
_SAMPLE = 20


def measure_speed(console: Console, rounds: int) -> list[Figure]:
    """Medians of several sweeps; Evidently on twenty segments, extrapolated to all."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = Lake(str(folder / "lake"))
        reference = make_rows(random, SEGMENTS, FEATURES, range(30), 10)
        current = make_rows(random, SEGMENTS, FEATURES, range(40, 47), 5).groupby(["segment"]).head(30)
        write_rows(lake, "features/reference", reference)
        write_rows(lake, "features/current", current)
        started = time.perf_counter()
        serving = keep_references(lake, reference)
        keeping = time.perf_counter() - started
        window = open_window(lake, "features/current", FEATURES, START + timedelta(days=40), START + timedelta(days=47))
        spec = DriftSpec(min_rows=20)

        def sweep() -> Any:
            return evaluate_drift(compare_window(lake, LINE, window, serving), spec)

        columns = ", ".join(f"sum(f{n}), count(f{n})" for n in range(FEATURES))
        both = {"r": lake.pin("features/reference"), "c": lake.pin("features/current")}
        scan_sql = f"select {columns} from (from r union all from c)"
        ours = [_seconds(sweep) for _ in range(4 + rounds)]
        scans = [_seconds(lambda: lake.query(scan_sql, **both)) for _ in range(4 + rounds)]
        small_scans = [_seconds(lambda: lake.query(f"select {columns} from c", c=both["c"])) for _ in range(4 + rounds)]
        console.print(f"ours {statistics.median(ours):.3f} s, scan {statistics.median(scans):.3f} s; Evidently runs")
        for side, frame in (("reference", reference), ("current", current)):
            frame.to_parquet(folder / f"{side}.parquet")
        chosen = [entry.segment for entry in serving[:_SAMPLE]]
        paths = [str(folder / f"{side}.parquet") for side in ("reference", "current")]
        theirs = run_evidently(folder, "evidently_side.py", [*paths, *chosen])
    seconds = statistics.median(ours)
    each = statistics.median(theirs["seconds"])
    of_scan = seconds / statistics.median(scans)
    how = f"{SEGMENTS} segments x {FEATURES} features, reference 300k rows, current 30k, medians of {len(ours)}"
    faster = each * SEGMENTS / seconds
    return [
        Figure("drift sweep of a fleet: Evidently a segment / ours", faster, "x", f"{how}; Evidently on {_SAMPLE} segments, "
               "extrapolated; its default preset", "at least 200 x", faster >= 200),
        at_most("drift sweep / raw scan of reference and current columns", of_scan, "x", 3, how),
        Figure("drift sweep / raw scan of the current columns alone", seconds / statistics.median(small_scans), "x", how),
        Figure("drift sweep", seconds, "s", how),
        Figure("Evidently, one segment", each, "s", f"median of {_SAMPLE}"),
        Figure("references kept at training, 300k rows", keeping, "s", "design effects by day included, written to Delta"),
    ]  # fmt: skip


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
