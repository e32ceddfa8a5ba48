"""Plants each change into a real day, lets the real ingestion and the real sensor act, and counts what was routed right."""

import csv
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import yaml
from rich.console import Console

from benchmarks.figures import Figure, at_most
from benchmarks.incidents.plants import PLANTS, Plant, Row
from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.retraining import build_retraining_sensor
from factory_assets.contracts.incidents import Incident
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.source import SourceSpec
from factory_assets.demo.flights import open_flight_data
from factory_assets.demo.replay import Replay, landing_instant
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.landing import LandedFile, find_files
from factory_assets.storage.tables.bronze import QUARANTINE, BronzeWriter, HeldDaysError, IngestReport

_DEFS = Path(__file__).parents[2] / "factory_assets" / "defs"
_ZONE = "America/New_York"
_YEAR = (date(2013, 1, 1), date(2013, 12, 31))
# A Tuesday in winter, a Saturday in spring, the Monday after a summer weekend, a Thursday in autumn.
_TARGETS = (date(2013, 2, 12), date(2013, 4, 20), date(2013, 7, 15), date(2013, 10, 24))
_HISTORY_DAYS = 28
_LINE = "arrival_delay"


@dataclass(frozen=True)
class Outcome:
    """What became of one plant."""

    plant: Plant
    kinds: tuple[str, ...]
    readers_kept: bool
    retrain: bool
    repaired: bool

    @property
    def routed(self) -> bool:
        """Broken: held, readers kept what they had, no retrain, and mended at once. Genuine: published, retrain allowed."""
        if self.plant.kind:
            return bool(self.kinds) and self.readers_kept and not self.retrain and self.repaired
        return not self.kinds and self.retrain


def measure_incidents(console: Console, rounds: int) -> list[Figure]:
    """All figures. The plants are seeded and the rules are deterministic, so one round says all."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        clock = FactoryClock(root / "clock.json")
        console.print("landing the year ...")
        Replay(open_flight_data(), root / "landing", clock).land(*_YEAR)
        figures = []
        for title, bare in (("as declared", False), ("types only", True)):
            outcomes = [_play(root, plant, _TARGETS[n % len(_TARGETS)], bare) for n, plant in enumerate(PLANTS)]
            figures += _summarise(console, outcomes, title)
        return [*figures, *_count_false_holds(console, root)]


def _summarise(console: Console, outcomes: Sequence[Outcome], title: str) -> list[Figure]:
    for outcome in outcomes:
        if not outcome.routed or outcome.kinds[:1] != ((outcome.plant.kind,) if outcome.plant.kind else ()):
            console.print(f"{title}: {outcome.plant.source} {outcome.plant.title}: {outcome}")
    broken = [outcome for outcome in outcomes if outcome.plant.kind]
    genuine = [outcome for outcome in outcomes if not outcome.plant.kind]
    right = 100 * sum(outcome.routed for outcome in outcomes) / len(outcomes)
    named = 100 * sum(outcome.kinds[:1] == (outcome.plant.kind,) for outcome in broken) / len(broken)
    how = (
        f"{len(broken)} broken and {len(genuine)} genuinely changed days, contracts {title}, real ingestion and sensor; "
        "every check of the line is planted as failed, so that what is measured is which of these alarms may start a retrain"
    )
    return [
        Figure(f"Days routed right, contracts {title}", right, "%", how, "at least 95 %", right >= 95),
        Figure(f"Broken days named by their kind, contracts {title}", named, "%", how, is_detail=True),
        at_most(f"Retrains on a broken feed, contracts {title}", sum(o.retrain for o in broken), "retrains", 0, how),
        at_most(f"Genuine changes held, contracts {title}", sum(bool(o.kinds) for o in genuine), "days", 0, how),
    ]


def _play(root: Path, plant: Plant, target: date, bare: bool) -> Outcome:
    spec = _source(plant.source, bare)
    before = _history(root, spec, target, bare)
    with TemporaryDirectory() as scratch:
        lake = Lake(f"{scratch}/lake")
        shutil.copytree(before, lake.root)
        landing = Path(scratch) / "landing"
        true_rows = _read(root, plant.source, target)
        earlier = _read(root, plant.source, target - timedelta(days=plant.back))
        rows = plant.change(true_rows, earlier, random.Random(plant.title))
        for number in range(2 if plant.twin else 1):
            _write(landing / plant.source / f"{target}{'.again' if number else ''}.csv", rows)
        held = _ingest(lake, spec, landing, target)
        count = _rows_of(lake, plant.source, target)
        retrain = _asks_for_a_retrain(lake, Path(scratch), plant.source, target)
        for file in (landing / plant.source).glob("*"):
            file.unlink()
        _write(landing / plant.source / f"{target}.csv", true_rows)
        again = _ingest(lake, spec, landing, target)
        repaired = not again and _rows_of(lake, plant.source, target) + len(lake.rows(QUARANTINE)) == len(true_rows)
        kinds = tuple(finding.kind for incident in held for finding in incident.findings)
        return Outcome(plant, kinds, count == (0 if plant.kind else len(rows)), retrain, repaired)


def _history(root: Path, spec: SourceSpec, target: date, bare: bool) -> Path:
    """A lake with the days before the target, made once for each source, day and contract."""
    place = root / "before" / f"{spec.name}-{target}-{bare}"
    if not place.exists():
        days = [target - timedelta(days=n) for n in range(_HISTORY_DAYS, 0, -1)]
        BronzeWriter(Lake(str(place)), spec, _ZONE).ingest(_first_files(root, spec, days), landing_instant(days[-1]))
    return place


def _first_files(root: Path, spec: SourceSpec, days: Sequence[date]) -> list[LandedFile]:
    """The files that landed on the morning after each day, without what came late."""
    return [f for f in find_files(root / "landing", spec, map(str, days)) if ".late-" not in f.name]


def _ingest(lake: Lake, spec: SourceSpec, landing: Path, day: date) -> tuple[Incident, ...]:
    report: IngestReport
    try:
        files = find_files(landing, spec, [str(day)])
        report = BronzeWriter(lake, spec, _ZONE).ingest(files, landing_instant(day), [day])
    except HeldDaysError as error:
        report = error.report
    return report.held


def _asks_for_a_retrain(lake: Lake, folder: Path, source: str, day: date) -> bool:
    """Whether the real sensor asks for a retrain when drift, age and freshness all fail on the day's data."""
    spec = ModelLineSpec.model_validate(
        yaml.safe_load((_DEFS / "model_lines" / _LINE / "defs.yaml").read_text())["attributes"]
    )
    now = landing_instant(day)
    FactoryClock(folder / "clock.json").set(now)
    resources = {
        "lake": LakeResource(root=lake.root, landing=str(folder), models=str(folder)),
        "mlflow": MlflowResource(tracking_uri="sqlite:////nowhere", artifact_root="/nowhere"),
        "clock": ClockResource(path=str(folder / "clock.json")),
    }
    with dg.DagsterInstance.ephemeral(str(folder)) as instance:
        for key in check_keys(spec).values():
            metadata: dict[str, Any] = {"champion_version": 0, "data_as_of": dg.MetadataValue.timestamp(now)}
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(key.asset_key, key.name, False, metadata=metadata, description="planted")
            )
        context = dg.build_sensor_context(instance=instance, resources=resources)
        answer = build_retraining_sensor(spec, sources=(source,))(context)
    return bool(answer.run_requests)


def _count_false_holds(console: Console, root: Path) -> list[Figure]:
    """The untouched year, as it landed and as it was after all late outcomes; days are judged one after the other."""
    days = [_YEAR[0] + timedelta(days=n) for n in range((_YEAR[1] - _YEAR[0]).days + 1)]
    held: list[Incident] = []
    for name in ("flights", "weather"):
        spec = _source(name, bare=False)
        for label, files in (
            ("first", _first_files(root, spec, days)),
            ("late", find_files(root / "landing", spec, map(str, days))),
        ):
            expected = days if name == "flights" else days[:-1]
            try:
                BronzeWriter(Lake(str(root / f"year-{name}-{label}")), spec, _ZONE).ingest(
                    files, datetime(2014, 1, 2, tzinfo=UTC), expected
                )
            except HeldDaysError as error:
                held += error.report.held
    for incident in held:
        console.print(f"held without cause: {incident.source} {incident.day}: {incident.summary}")
    how = "flights and weather of 2013, 365 and 364 days, as first landed and again with all late outcomes"
    return [at_most("False holds over the untouched year", len(held), "days", 0, how)]


def _source(name: str, bare: bool) -> SourceSpec:
    declared = yaml.safe_load((_DEFS / "sources" / name / "defs.yaml").read_text(encoding="utf-8"))["attributes"]
    if bare:
        kept = ("type", "required")
        declared["columns"] = {c: {k: v for k, v in rules.items() if k in kept} for c, rules in declared["columns"].items()}
    return SourceSpec.model_validate(declared)


def _rows_of(lake: Lake, source: str, day: date) -> int:
    found = lake.query("select count(*) as n from t where partition_date = ?", [day], t=lake.pin(f"bronze/{source}"))
    return int(found.column("n")[0].as_py())


def _read(root: Path, source: str, day: date) -> list[Row]:
    with (root / "landing" / source / f"{day}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not rows:
        return
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
