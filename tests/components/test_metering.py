"""What a body of an asset took, as the kernel accounts it, is what its segments have in `ops/costs` together."""

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from factory_assets.components.metering import metered, note_segment_cpu
from factory_assets.resources import LakeResource
from factory_assets.storage.tables.costs import Costs

_BURN = "import time\nuntil = time.process_time() + {}\nwhile time.process_time() < until: sum(range(1000))"


def kernel_cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def test_segments_share_all_that_the_body_and_its_workers_used(tmp_path: Path) -> None:
    took: dict[str, float] = {}

    @dg.asset(name="models")
    @metered("models", "fleet/models", "fleet")
    def models(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
        before = kernel_cpu_seconds()
        own = {}
        for segment, seconds in (("a", 0.6), ("b", 0.3)):
            started = time.process_time()
            exec(_BURN.format(seconds))
            own[segment] = time.process_time() - started
        subprocess.run([sys.executable, "-c", _BURN.format(0.5)], check=True)  # work of no segment in particular
        note_segment_cpu(own)
        took.update(own, whole=kernel_cpu_seconds() - before)

    lake = LakeResource(root=str(tmp_path / "lake"), landing=str(tmp_path), models=str(tmp_path))
    assert dg.materialize([models], resources={"lake": lake}).success
    rows: dict[str, dict[str, Any]] = {row["segment"]: row for row in Costs(lake.open()).rows()}
    assert set(rows) == {"a", "b"}
    assert sum(row["cpu_seconds"] for row in rows.values()) == pytest.approx(took["whole"], rel=0.02)
    rest = took["whole"] - took["a"] - took["b"]
    assert rest > 0.5
    for segment in ("a", "b"):
        assert rows[segment]["cpu_seconds"] == pytest.approx(took[segment] + rest / 2, rel=0.02)
