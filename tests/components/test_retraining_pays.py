"""The sensor on real tables: retrains that did not pay wait longer, and the greatest expected loss is served first."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.paybacks import build_paybacks_asset
from factory_assets.components.model_line.retraining import build_retraining_sensor
from factory_assets.components.naming import LINE_TAG, ledger_key
from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.paybacks import Gain, Payback, PaybackVerdict, Replacement
from factory_assets.contracts.retraining import Cause, LedgerEntry
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS
from factory_assets.storage.tables.paybacks import Paybacks
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from tests.components.test_retraining_sensor import NOW, SPEC, Factory, factory, requested
from tests.recorded import promote

__all__ = ["factory"]  # a fixture
FLEET = SPEC.model_copy(update={"segment_by": ("carrier",)})


def judge_promotion(lake: Lake, version: int, verdict: PaybackVerdict, segment: str = "all") -> None:
    promoted = Replacement(segment, version, segment, version - 1, NOW - timedelta(days=100 - version))
    gain = Gain("roc_auc", 500, 14, 0.7, 0.7, 0.0, -0.1, 0.1, 0.0, verdict, verdict)
    Paybacks(lake).record("delay", [Payback(promoted, NOW, gain, NOW)])


@pytest.mark.parametrize(
    ("verdicts", "days"),
    [([], 7), (["did_not_pay"], 7), (["did_not_pay", "did_not_pay"], 14), (["did_not_pay", "did_not_pay", "paid"], 7)],
)
def test_after_two_retrains_that_did_not_pay_the_cooldown_is_twice_as_long(
    factory: Factory, verdicts: list[PaybackVerdict], days: int
) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    factory.resolve(factory.start_run(requested(factory.tick()), dg.DagsterRunStatus.SUCCESS), "promoted", version=2)
    for version, verdict in enumerate(verdicts, 2):
        judge_promotion(factory.lake, version, verdict)
    factory.clock.set(NOW + timedelta(days=1))
    factory.judge("feature_drift", False, 2, NOW + timedelta(days=1))
    until = (NOW + timedelta(days=days)).isoformat()
    assert f"Cooling down until {until}" in str(factory.tick())
    reason = factory.entries()[-1].reason
    assert ("the cooldown is 2w instead of 1w: 0 of 2 retrains paid" in reason) == (days == 14)
    factory.clock.set(NOW + timedelta(days=days))
    assert requested(factory.tick())


def test_the_asset_judges_what_is_due_and_shows_it_on_the_ledger_too(factory: Factory) -> None:
    for version, days in ((1, 60), (2, 30)):
        promote(factory.lake, "delay", version, NOW - timedelta(days=days))
    moments = pa.array([NOW - timedelta(days=day) for day in range(1, 20)] * 15, UTC_TIMESTAMP)
    ids = pa.array(range(len(moments)))
    features = pa.table({"flight_id": ids, "departs_at": moments, "a": pa.array([0.5] * len(moments))})
    labels = pa.table({"flight_id": ids, "late": [True] * len(moments), "known_at": moments})
    factory.lake.replace(TableSpec("features/feat_flight", features.schema, ("flight_id",)), features)
    factory.lake.replace(TableSpec("marts/fct_flight", labels.schema, ("flight_id",)), labels)
    RetrainLedger(factory.lake).write(
        [LedgerEntry(Cause("delay", "all", "model_age", 1, NOW), "promoted", NOW, NOW, "better", outcome_version=2)], 0
    )
    asset = build_paybacks_asset(SPEC, has_ledger_asset=True)
    result = dg.materialize([asset], instance=factory.instance, resources=factory.resources)
    (own,) = result.asset_materializations_for_node("delay__paybacks")[-1:]
    # The file of a recorded model that was never trained is not there, which is said and not passed over.
    assert (own.metadata["judged_now"].value, own.metadata["undecided"].value) == (1, 1)
    assert "x.bundle" in own.metadata["newest"].value.records[0].data["reason"]
    shown = factory.instance.get_latest_materialization_event(ledger_key())
    assert shown.asset_materialization.metadata["promotions_undecided"].value == 1
    again = dg.materialize([asset], instance=factory.instance, resources=factory.resources)
    assert again.asset_materializations_for_node("delay__paybacks")[-1].metadata["judged_now"].value == 0


def test_a_requested_run_is_taken_from_the_queue_within_a_second_and_the_queue_keeps_its_limits(tmp_path: Any) -> None:
    settings = files("factory_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text(settings, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_coordinator.dequeue_interval_seconds == 1
        limits = instance.get_concurrency_config().run_queue_config
        assert (limits.max_concurrent_runs, limits.tag_concurrency_limits[0]["key"]) == (2, LINE_TAG)


def fail_drift(factory: Factory, severities: dict[str, float]) -> None:
    """A failed check on these segments, as the judge leaves it: the verdict in Dagster, the effects in the lake."""
    key = check_keys(FLEET)["feature_drift"]
    metadata = {"champion_version": 1, "data_as_of": dg.MetadataValue.timestamp(NOW), "failing_segments": list(severities)}
    factory.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(key.asset_key, key.name, False, metadata=metadata, description="drifted")
    )
    blank: dict[str, Any] = dict.fromkeys(DRIFT_RESULTS.schema.names)
    rows = [
        {**blank, "line": "delay", "check": "feature_drift", "segment": segment, "feature": "x", "window_end_utc": NOW}
        | {"effect": severity * 0.2, "threshold": 0.2, "segment_drifted": True}
        for segment, severity in severities.items()
    ]
    factory.lake.replace(DRIFT_RESULTS, pa.Table.from_pylist(rows, schema=DRIFT_RESULTS.schema))


def score(factory: Factory, rows_a_week: dict[str, int]) -> None:
    segments = [segment for segment, rows in rows_a_week.items() for _ in range(rows)]
    at = pa.array([NOW - timedelta(hours=1)] * len(segments), UTC_TIMESTAMP)
    scored = pa.table({"departs_at": at, "model_segment": segments})
    factory.lake.replace(TableSpec("predictions/delay", scored.schema, ()), scored)


@pytest.mark.parametrize(
    ("severities", "rows_a_week", "verdicts", "first"),
    [
        ({"AA": 1.0, "UA": 1.0}, {"AA": 7, "UA": 70}, {}, "UA"),
        ({"AA": 1.0, "UA": 1.0}, {"AA": 70, "UA": 7}, {}, "AA"),
        ({"AA": 9.0, "UA": 2.0}, {"AA": 20, "UA": 70}, {}, "AA"),
        ({"AA": 2.0, "UA": 2.0}, {"AA": 70, "UA": 70}, {"AA": "did_not_pay", "UA": "paid"}, "UA"),
        ({"AA": 2.0, "UA": 2.0}, {"AA": 70, "UA": 70}, {"AA": "paid", "UA": "did_not_pay"}, "AA"),
    ],
    ids=["traffic", "traffic the other way", "effect outweighs traffic", "what paid", "what paid the other way"],
)
def test_of_two_segments_the_one_with_the_greater_expected_loss_is_served_first(
    factory: Factory, severities: Any, rows_a_week: Any, verdicts: Any, first: str
) -> None:
    for segment in ("AA", "UA"):
        promote(factory.lake, "delay", 1, datetime(2013, 5, 1, tzinfo=UTC), segment)
    score(factory, rows_a_week)
    for segment, verdict in verdicts.items():
        judge_promotion(factory.lake, 1, verdict, segment)
    fail_drift(factory, severities)
    factory.sensor = build_retraining_sensor(FLEET, RetrainBudgetSpec(runs_at_once=1, segments_a_run=1))
    request = requested(factory.tick())
    assert request.run_config["ops"]["delay__models"]["config"]["segments"] == [first]
    losses = {entry.cause.segment: entry.expected_loss for entry in factory.entries() if entry.state == "open"}
    chance = {None: 1 / 2, "paid": 2 / 3, "did_not_pay": 1 / 3}
    assert losses == pytest.approx(
        {key: severities[key] * rows_a_week[key] / 7 * chance[verdicts.get(key)] for key in severities}
    )
