"""The loop as a good engineer's own script: duckdb, deltalake and scikit-learn, and nothing else.

It does the factory's work and comes to the same rows, models, scores and verdicts. What it does not do is what the
factory is for: no lineage or run record, no registry, no quarantine table, no memory of files, no pictures, no retries.
"""

import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import pyarrow as pa
import yaml
from deltalake import DeltaTable, write_deltalake
from threadpoolctl import threadpool_limits

from benchmarks.loop.bare_models import Line, Model, drift, predict, read_line, train
from benchmarks.loop.meter import Meter
from benchmarks.loop.work import LINES, PROJECT, Days, Work

REFERENCE_TABLES, DAILY_TABLES = ("airlines", "airports", "planes"), ("flights", "weather")
DEFS = PROJECT / "factory_assets" / "defs"
ZONE = ZoneInfo("America/New_York")
SQL_TYPES = {"timestamp": "timestamptz", "string": "varchar"}
BOUNDS = {"minimum": ">=", "maximum": "<="}


@dataclass
class Loop:
    """The steps, over one DuckDB in memory and one folder of Delta tables."""

    landing: Path
    lake: Path
    db: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)

    def __post_init__(self) -> None:
        self.db.execute("set timezone = 'UTC'")
        for schema in ("bronze", "staging", "marts", "features"):
            self.db.execute(f"create schema {schema}")

    def ingest(self, source: str, days: Days) -> None:
        """Reads the files, leaves out the few rows that break the contract, of equal keys keeps the newest."""
        contract = yaml.safe_load((DEFS / "sources" / source / "defs.yaml").read_text())["attributes"]
        daily, columns = source in DAILY_TABLES, contract["columns"]
        patterns = [contract["landing"].replace("{partition}", day) for day in (days.keys if daily else [""])]
        files = [str(path) for pattern in patterns for path in sorted(self.landing.glob(pattern))]
        types = ", ".join(f"'{name}': '{SQL_TYPES.get(c['type'], c['type'])}'" for name, c in columns.items())
        self.db.execute(
            "create or replace temp table landed as select * from "
            f"read_csv(?, header = true, nullstr = ?, filename = 'path', columns = {{{types}}})",
            [files, contract.get("null_values", [""])],
        )
        rules = " and ".join(rule for name, column in columns.items() for rule in rules_of(name, column))
        share = float(self.db.execute(f"select avg((not ({rules}))::int) from landed").fetchall()[0][0])
        if share > contract.get("max_quarantined_share", 0.05):
            raise ValueError(f"{source}: {share:.0%} of the rows break the contract")
        day = "parse_filename(path)[:10]::date as partition_date, " if daily else ""
        keys = ", ".join([*(["partition_date"] if daily else []), *contract["keys"]])
        rows = self.db.execute(
            f"select {', '.join(columns)}, {day}'{source}/' || parse_filename(path) as _source_file, "
            f"?::timestamptz as _ingested_at_utc from landed where {rules} "
            f"qualify row_number() over (partition by {keys} order by path desc) = 1",
            [days.now],
        ).to_arrow_table()
        self.write(f"bronze/{source}", rows, "partition_date" if daily else None, days)

    def transform(self, work: Work) -> None:
        """Runs every model's SQL anew, then every test's."""
        for source in (*REFERENCE_TABLES, *DAILY_TABLES):
            files = DeltaTable(self.lake / "bronze" / source).file_uris()
            self.db.execute(f"create or replace view bronze.{source} as select * from read_parquet({files})")
        for path in work.models:
            _, schema, table, _ = path.name.split(".")
            self.db.execute(f"create or replace table {schema}.{table} as {path.read_text()}")
            self.write(f"{schema}/{table}", self.db.table(f"{schema}.{table}").to_arrow_reader(65_536))
        for path in work.tests:
            broken = self.db.execute(f"select 1 from ({path.read_text()}) limit 1").fetchall()
            if broken:
                raise ValueError(f"the test {path.stem} finds rows")

    def build_training_set(self, line: Line, now: datetime) -> pd.DataFrame:
        """Features joined to the labels known by now."""
        rows: pa.Table = self.db.execute(
            f"select f.*, l.{line.label}::double as label, l.{line.known_at} as label_known_at_utc "
            f"from {line.features} as f join {line.labels} as l using ({', '.join(line.entity)}) "
            f"where l.{line.label} is not null and f.{line.as_of} <= $now and l.{line.known_at} <= $now "
            f"order by {', '.join(line.key)}",
            {"now": now},
        ).to_arrow_table()
        self.write(f"training_sets/{line.name}", rows)
        frame: pd.DataFrame = rows.drop_columns("label_known_at_utc").to_pandas()
        return frame

    def score(self, line: Line, model: Model, days: Days) -> None:
        """Scores the days and replaces their predictions."""
        start, end = (datetime.combine(day, datetime.min.time(), ZONE) for day in (days.first, days.last + timedelta(1)))
        rows: pa.Table = self.db.execute(
            f"select *, timezone('{ZONE.key}', {line.as_of})::date as prediction_date from {line.features} "
            f"where {line.as_of} >= ? and {line.as_of} < ? order by {', '.join(line.key)}",
            [start, min(end, days.now)],
        ).to_arrow_table()
        scored = rows.select([*line.key, "prediction_date"])
        scored = scored.append_column("score", pa.array(predict(model, rows.to_pandas())))
        in_sample = pa.compute.less_equal(rows[line.as_of], pa.scalar(model.trained_until, rows[line.as_of].type))
        scored = scored.append_column("in_sample", in_sample)
        self.write(f"predictions/{line.name}", scored, "prediction_date", days)

    def judge(self, line: Line, model: Model, now: datetime) -> None:
        """Freshness of data and model, drift of features and predictions, kept in one table."""
        newest = self.db.execute(f"select max({line.as_of}) from {line.features}").fetchall()[0][0]
        verdicts = [
            (check, lag / timedelta(hours=1), lag <= limit)
            for check, lag, limit in (
                ("feature_freshness", now - newest, line.max_lag),
                ("model_age", now - model.known_until, line.max_age),
            )
        ]
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        window = [today - line.window, today]
        features = self.db.execute(
            f"select * from {line.features} where {line.as_of} >= ? and {line.as_of} < ?", window
        ).df()
        files = DeltaTable(self.lake / "predictions" / line.name).file_uris()
        scores = self.db.execute(
            f"select score as prediction from read_parquet(?) where {line.as_of} >= ? and {line.as_of} < ?", [files, *window]
        ).df()
        columns = [name for name in (*model.numeric, *model.text) if name not in line.ignored]
        verdicts.append(("feature_drift", *drift(model, columns, features, line.threshold)))
        verdicts.append(("prediction_drift", *drift(model, ["prediction"], scores, line.threshold)))
        table = pa.table(
            {
                "line": [line.name] * len(verdicts),
                "check": [verdict[0] for verdict in verdicts],
                "evaluated_at_utc": pa.array([now] * len(verdicts), pa.timestamp("us", "UTC")),
                "value": [float(verdict[1]) for verdict in verdicts],
                "passed": [bool(verdict[2]) for verdict in verdicts],
            }
        )
        write_deltalake(self.lake / "ops" / "check_results", table, mode="append")

    def write(self, name: str, rows: Any, partition: str | None = None, days: Days | None = None) -> None:
        """Replaces a table, or the days of a partitioned one."""
        uri, predicate = self.lake / name, None
        if partition and days and DeltaTable.is_deltatable(str(uri)):
            predicate = f"{partition} >= '{days.first}' and {partition} <= '{days.last}'"
        write_deltalake(uri, rows, mode="overwrite", partition_by=[partition] if partition else None, predicate=predicate)


def rules_of(name: str, column: dict[str, Any]) -> list[str]:
    """A column's contract as conditions; a null passes all but the first."""
    rules = [f"{name} is not null"] if column.get("required") else []
    rules += [f"coalesce({name} {sign} {column[key]}, true)" for key, sign in BOUNDS.items() if key in column]
    allowed = ", ".join(f"'{value}'" for value in column.get("allowed", ()))
    return [*rules, f"coalesce({name} in ({allowed}), true)"] if allowed else rules


def main(work: Work, out: Path) -> None:
    """History with both trainings, then the week; writes `measured.json` below `out`."""
    meter = Meter()
    meter.add_start("imports")
    loop, models = Loop(out / "landing", out / "lake"), {}
    lines = [read_line(DEFS / "model_lines" / line / "defs.yaml") for line in LINES]
    for phase, days in (("history", work.history), ("week", work.week)):
        work.land(days, loop.landing)
        with meter.stage(phase, "ingest"):
            # The reference tables do not change, so the week leaves them.
            for source in (*(REFERENCE_TABLES if phase == "history" else ()), *DAILY_TABLES):
                loop.ingest(source, days)
        with meter.stage(phase, "transform"):
            loop.transform(work)
        for line in lines:
            with threadpool_limits(limits=1):
                if phase == "history":
                    with meter.stage(phase, "training set"):
                        frame = loop.build_training_set(line, days.now)
                    with meter.stage(phase, "train"):
                        models[line.name] = train(line, frame, days.now, out / "models")
                with meter.stage(phase, "score"):
                    loop.score(line, models[line.name], days)
            with meter.stage(phase, "judge"):
                loop.judge(line, models[line.name], days.now)
    meter.facts["metrics"] = {name: model.metrics["main"] for name, model in models.items()}
    meter.save(out / "measured.json")


if __name__ == "__main__":
    main(Work.load(Path(sys.argv[1])), Path(sys.argv[2]))
