"""The work both sides do: which days, what landed, which SQL. Prepared once and never timed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

# The lines that both sides run; a fleet has benchmarks of its own.
LINES = ("arrival_delay", "departure_volume")
PROJECT = Path(__file__).resolve().parents[2]


class WorkNotPreparedError(RuntimeError):
    """The dbt project does not compile; the message is dbt's own."""


@dataclass(frozen=True)
class Days:
    """Days taken in together, both ends included, and the instant at which that happens (UTC)."""

    first: date
    last: date
    now: datetime

    @property
    def keys(self) -> list[str]:
        """Each day as YYYY-MM-DD."""
        return [str(self.first + timedelta(days=n)) for n in range((self.last - self.first).days + 1)]


@dataclass(frozen=True)
class Work:
    """Below `folder`: landed files of history (`history/`), the same and a week more (`week/`), and SQL (`sql/`)."""

    folder: Path
    history: Days
    week: Days

    @property
    def models(self) -> list[Path]:
        """Compiled models in dependency order, named `<number>.<schema>.<table>.sql`."""
        return sorted((self.folder / "sql" / "models").glob("*.sql"))

    @property
    def tests(self) -> list[Path]:
        """Queries that must give no row: dbt's data tests, and the constraints of contracts."""
        return sorted((self.folder / "sql" / "tests").glob("*.sql"))

    def land(self, days: Days, landing: Path) -> None:
        """Puts the files of `days` and all before into `landing`."""
        source = "history" if days == self.history else "week"
        shutil.copytree(self.folder / source, landing, dirs_exist_ok=True)

    def save(self) -> None:
        """Writes the days beside the files."""
        spans = {"history": asdict(self.history), "week": asdict(self.week)}
        (self.folder / "work.json").write_text(json.dumps(spans, default=lambda day: day.isoformat()))

    @classmethod
    def load(cls, folder: Path) -> "Work":
        """Reads what `save` wrote."""
        spans = json.loads((folder / "work.json").read_text())
        history, week = (
            Days(date.fromisoformat(s["first"]), date.fromisoformat(s["last"]), datetime.fromisoformat(s["now"]))
            for s in (spans["history"], spans["week"])
        )
        return cls(folder, history, week)


def prepare_work(folder: Path, first: date, history_days: int, week_days: int = 7) -> Work:
    """Lands the raw files, in two stages as time would, and compiles the dbt project's SQL.

    Raises:
        WorkNotPreparedError: when the dbt project does not compile.
    """
    from factory_assets.demo.flights import open_flight_data
    from factory_assets.demo.replay import Replay, landing_instant
    from factory_assets.storage.clock import FactoryClock

    last = first + timedelta(days=history_days - 1)
    history = Days(first, last, landing_instant(last))
    end = last + timedelta(days=week_days)
    week = Days(last + timedelta(days=1), end, landing_instant(end))
    data, clock = open_flight_data(), FactoryClock(folder / "clock.json")
    Replay(data, folder / "history", clock).land(history.first, history.last)
    shutil.copytree(folder / "history", folder / "week")
    Replay(data, folder / "week", clock).land(week.first, week.last)
    _write_sql(_compile(folder / "dbt"), folder / "sql")
    work = Work(folder, history, week)
    work.save()
    return work


def _compile(target: Path) -> dict[str, Any]:
    """The manifest with the SQL of a first run: over an empty lake no model is incremental."""
    project = PROJECT / "dbt_project"
    command = [sys.executable, "-m", "dbt.cli.main", "--quiet", "compile", "--project-dir", str(project)]
    command += ["--profiles-dir", str(project), "--target-path", str(target), "--log-path", str(target / "logs")]
    environment = {**os.environ, "FACTORY_LAKE_URI": str(target / "empty_lake")}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WorkNotPreparedError(f"the dbt project does not compile:\n{done.stdout}{done.stderr}")
    manifest: dict[str, Any] = json.loads((target / "manifest.json").read_text())
    return manifest


def _write_sql(manifest: dict[str, Any], folder: Path) -> None:
    for kind in ("models", "tests"):
        (folder / kind).mkdir(parents=True)
    models = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    written: list[str] = []
    while len(written) < len(models):
        ready = [
            key
            for key, node in models.items()
            if key not in written and all(d in written for d in node["depends_on"]["nodes"] if d in models)
        ]
        for key in sorted(ready):
            name = f"{len(written):02}.{models[key]['schema']}.{models[key]['name']}.sql"
            (folder / "models" / name).write_text(models[key]["compiled_code"])
            written.append(key)
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":
            (folder / "tests" / f"{node['name'][:120]}.sql").write_text(node["compiled_code"])
    for node in models.values():
        conditions = _broken_constraints(node)
        if conditions:
            relation = f"{node['schema']}.{node['name']}"
            sql = f"select * from {relation} where {' or '.join(conditions)}"
            (folder / "tests" / f"contract_{node['name']}.sql").write_text(sql)


def _broken_constraints(node: dict[str, Any]) -> list[str]:
    """What the `delta` materialization refuses while it writes, as conditions on a row."""
    if not node["config"].get("contract", {}).get("enforced"):
        return []
    owned = [(column["name"], c) for column in node["columns"].values() for c in column["constraints"]]
    owned += [(column, c) for c in node["constraints"] for column in c["columns"] or [""]]
    return [f"{name} is null" if c["type"] == "not_null" else f"not ({c['expression']})" for name, c in owned]
