"""Every table that the factory writes opens in an independent Delta implementation, with the same rows."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from factory_assets.contracts.maintenance import MaintenanceSpec
from factory_assets.contracts.retraining import Cause, LedgerEntry
from factory_assets.contracts.source import ColumnContract, SourceSpec
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.maintenance import maintain_table
from factory_assets.storage.landing import find_files
from factory_assets.storage.tables.bronze import BronzeWriter
from factory_assets.storage.tables.check_results import CheckResults
from factory_assets.storage.tables.predictions import DAY_COLUMN, Predictions
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from factory_assets.storage.tables.training_sets import TrainingSets
from tests.aged_tables import age_table
from tests.dbt.conftest import Sandbox
from tests.lines.conftest import NOW, SPEC, START, write_things
from tests.readers.conftest import KernelReader
from tests.recorded import credit, promote

ODD = ["it's", "a b/c%41?#é", "..", "日本", "a:b", "*", "[z]", "{a}", "%20", "a+b", "null", "k=1", 'quo"te', None]
CLOSELY = MaintenanceSpec(compact_from=2, retention="1h", z_order={"marts/merged": ("n",)})


def care_for(lake: Lake) -> None:
    """Two rounds of care, the second after everything has become old."""
    for name in lake.files.table_names():
        for _ in range(2):
            assert maintain_table(lake, name, CLOSELY, frozenset()).problem is None
            for file in (Path(lake.uri(name)) / "_delta_log").glob("*checkpoint*"):
                file.unlink()
            age_table(Path(lake.uri(name)), 1)
        lake.pin(name).handle.create_checkpoint()


def odd_rows(*numbers: int) -> pa.Table:
    return pa.table(
        {
            "n": pa.array(numbers, pa.int64()),
            "k": pa.array([ODD[number % len(ODD)] for number in numbers], pa.string()),
            "day": pa.array([date(2013, 1, 1) + timedelta(days=number % 3) for number in numbers]),
            "at": pa.array([START + timedelta(microseconds=number) for number in numbers], pa.timestamp("us", "UTC")),
            "local": pa.array([datetime(2013, 1, 1, 5)] * len(numbers), pa.timestamp("us")),  # noqa: DTZ001
            "list": pa.array([["x", None]] * len(numbers)),
            "pair": pa.array([{"a b": 1.5, "c": None}] * len(numbers), pa.struct({"a b": pa.float64(), "c": pa.string()})),
            "bytes": pa.array([b"\x00'"] * len(numbers)),
        }
    )


MODELS: dict[str, dict[str, Any]] = {
    "whole": {},
    "whole_by_partition": {"partition_by": ["k", "day"]},
    "merged": {"incremental_strategy": "merge", "unique_key": "n"},
    "replaced": {"incremental_strategy": "replace_partitions", "partition_by": "k"},
}


@pytest.mark.parametrize("cared_for", [False, True], ids=["as written", "after care"])
def test_dbt_models_of_every_write_mode(cared_for: bool, sandbox: Sandbox, kernel: KernelReader) -> None:
    lake = Lake(str(sandbox.lake))
    for name, config in MODELS.items():
        sandbox.model(name, "select * from {{ source('bronze', 'events') }}", **config)
    sandbox.model("empty", "select * from {{ ref('whole') }} where n < 0")
    sandbox.write_source("events", odd_rows(*range(60)), partition_by=["k"])
    sandbox.run_well("build")
    sandbox.write_source("events", odd_rows(*range(30, 100, 2)), partition_by=["k"])
    sandbox.run_well("build")
    if cared_for:
        care_for(lake)
    counts = kernel.assert_reads_lake(lake)
    assert counts["marts/whole"] == counts["marts/whole_by_partition"] == 35
    assert counts["marts/merged"] == 80
    assert counts["marts/empty"] == 0
    # The source, the empty model, and the record of what was published.
    assert len(counts) == len(MODELS) + 3


@pytest.fixture
def line_lake(tmp_path: Path) -> Lake:
    """Everything that the factory writes for one line, from landing to the ledger, with what was replaced on the way."""
    lake = Lake(str(tmp_path / "lake"))
    land_days(lake, tmp_path / "landing")
    for cycle in range(2):
        write_things(lake, shift=cycle)
        training_set = TrainingSets(lake, SPEC).build(NOW + timedelta(days=cycle))
        score_days(lake, training_set.feature_set, cycle)
        promote(lake, SPEC.name, cycle + 1)
        CheckResults(lake).record(
            SPEC.name, "feature_drift", champion_version=cycle, data_as_of_utc=NOW, evaluated_at_utc=NOW, passed=True,
            summary="it's well", numbers={"psi": 0.1}, run_id="run",
        )  # fmt: skip
        cause = Cause(SPEC.name, "it's b", "feature_drift", cycle, NOW)
        assert RetrainLedger(lake).write([LedgerEntry(cause, "open", NOW, NOW, "a check failed")], cycle)
    return lake


def land_days(lake: Lake, landing: Path) -> None:
    source = SourceSpec(
        name="readings",
        landing="readings/{partition}*.csv",
        partitions="daily",
        keys=("id",),
        columns={"id": ColumnContract(type="bigint", required=True), "at": ColumnContract(type="timestamp")},
        max_quarantined_share=0.9,
    )
    (landing / "readings").mkdir(parents=True)
    for day in ("2013-01-01", "2013-01-02"):
        (landing / "readings" / f"{day}.csv").write_text("id,at\n1,2013-01-01T10:00:00Z\n,\n2,\nx,\n")
    writer = BronzeWriter(lake, source)
    writer.ingest(find_files(landing, source, ["2013-01-01", "2013-01-02"]), datetime(2013, 1, 3, tzinfo=UTC))
    (landing / "readings" / "2013-01-02 again.csv").write_text("id,at\n7,\n")
    writer.ingest(find_files(landing, source, ["2013-01-02"]), datetime(2013, 1, 4, tzinfo=UTC))


def score_days(lake: Lake, feature_set: Any, cycle: int) -> None:
    predictions = Predictions(lake, SPEC)
    rows = predictions.read_features(feature_set, ["x"], START, START + timedelta(days=3))
    days = sorted(set(rows.column(DAY_COLUMN).to_pylist()))[cycle:]
    rows = rows.filter(pa.compute.greater_equal(rows.column(DAY_COLUMN), days[0]))
    scores = pa.compute.multiply(rows.column("x"), 0.5)
    predictions.write(rows, scores, days, credit(rows.num_rows, cycle + 1, NOW, feature_set.version))


@pytest.mark.parametrize("cared_for", [False, True], ids=["as written", "after care"])
def test_bronze_training_sets_predictions_and_the_factorys_own_tables(
    cared_for: bool, line_lake: Lake, kernel: KernelReader
) -> None:
    if cared_for:
        care_for(line_lake)
    counts = kernel.assert_reads_lake(line_lake)
    assert set(counts) == {
        "bronze/readings", "features/feat_thing", "marts/fct_thing", "ops/batch_profiles", "ops/check_results",
        "ops/ingested_files", "ops/model_versions", "ops/promotions", "ops/quarantine", "ops/retrain_ledger",
        "predictions/delay", "training_sets/delay",
    }  # fmt: skip
    assert (counts["bronze/readings"], counts["predictions/delay"], counts["ops/promotions"]) == (5, 72, 2)


def test_a_version_that_care_was_told_to_keep(line_lake: Lake, kernel: KernelReader) -> None:
    expected = kernel.read(line_lake.uri("features/feat_thing"), 0)
    age_table(Path(line_lake.uri("features/feat_thing")), 30)
    maintain_table(line_lake, "features/feat_thing", CLOSELY, frozenset({0}))
    assert kernel.assert_reads(line_lake.uri("features/feat_thing"), 0).equals(expected)


def test_the_reader_can_tell_tables_apart(line_lake: Lake, kernel: KernelReader) -> None:
    older = kernel.read(line_lake.uri("predictions/delay"), 0)
    assert not older.equals(kernel.read(line_lake.uri("predictions/delay")))
    with pytest.raises(AssertionError, match="nowhere"):
        kernel.read(str(Path(line_lake.root) / "nowhere"))
