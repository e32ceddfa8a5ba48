"""The sensor against Dagster's real record and a real ledger; only the fit is left out."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from factory_assets.components.model_line.check_history import read_failed_checks
from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.retrain_runs import answer_request, claim_request, claimant_of
from factory_assets.components.model_line.retraining import build_retraining_sensor, is_settled
from factory_assets.components.naming import CAUSE_TAG, LINE_TAG, REQUEST_TAG
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import LedgerEntry, Outcome
from factory_assets.core.retraining.claims import RequestClosedError
from factory_assets.processes import mark_lost_runs
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from tests.declared_lines import flight_line
from tests.recorded import TRAINED, promote

NOW = datetime(2013, 7, 10, 14, tzinfo=UTC)
SPEC = flight_line(
    drift={"window": "7d"},
    retrain={"triggers": ("feature_drift", "model_age"), "cooldown": "7d", "backoff": "10m", "max_attempts": 2},
)


class Factory:
    """One line's sensor on real stores."""

    def __init__(self, folder: Any, instance: dg.DagsterInstance, spec: ModelLineSpec = SPEC) -> None:
        self.instance = instance
        self.lake = Lake(str(folder / "lake"))
        self.clock = FactoryClock(folder / "clock.json")
        self.clock.set(NOW)
        self.resources = {
            "lake": LakeResource(root=self.lake.root, landing=str(folder), models=str(folder)),
            "mlflow": MlflowResource(tracking_uri="sqlite:////nowhere", artifact_root="/nowhere"),
            "clock": ClockResource(path=str(folder / "clock.json")),
        }
        self.stores = open_stores(spec, self.resources["lake"], self.resources["mlflow"])
        self.sensor = build_retraining_sensor(spec)

    def tick(self) -> dg.RunRequest | str:
        context = dg.build_sensor_context(instance=self.instance, resources=self.resources)
        answer = self.sensor(context)
        if answer.skip_reason:
            return str(answer.skip_reason.skip_message)
        (request,) = answer.run_requests
        return request

    def judge(self, kind: str, passed: bool, champion: int, as_of: datetime = NOW) -> None:
        key = check_keys(SPEC)[kind]
        metadata = {"champion_version": champion, "data_as_of": dg.MetadataValue.timestamp(as_of)}
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(key.asset_key, key.name, passed, metadata=metadata, description=f"{kind} said so")
        )

    def start_run(self, request: dg.RunRequest, status: dg.DagsterRunStatus, job: str = "delay__retrain") -> dg.DagsterRun:
        tags = {**request.tags, LINE_TAG: "delay"}
        return self.instance.add_run(dg.DagsterRun(job_name=job, run_id=dg_run_id(), status=status, tags=tags))

    def entries(self) -> list[LedgerEntry]:
        return RetrainLedger(self.lake).entries("delay")

    def claim(self, run: dg.DagsterRun) -> None:
        claim_request(self.stores, claimant_of("delay", run, ()), self.clock.now())

    def resolve(self, run: dg.DagsterRun, state: Any, version: int | None = None) -> None:
        """What the models asset does in its run: claims, trains (which is left out), promotes, answers."""
        now = self.clock.now()
        self.claim(run)
        if version is not None:
            promote(self.lake, "delay", version, now)
        answer_request(self.stores, claimant_of("delay", run, ()), {"all": Outcome(state, "so said the gate", version)}, now)


def dg_run_id() -> str:
    from uuid import uuid4

    return str(uuid4())


@pytest.fixture
def factory(tmp_path: Any) -> Iterator[Factory]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        yield Factory(tmp_path, instance)


def with_policy(factory: Factory, tmp_path: Any, **policy: Any) -> Factory:
    retrain = RetrainSpec(**{"triggers": SPEC.retrain.triggers, **policy})
    return Factory(tmp_path, factory.instance, SPEC.model_copy(update={"retrain": retrain}))


def requested(answer: dg.RunRequest | str) -> dg.RunRequest:
    assert isinstance(answer, dg.RunRequest), answer
    return answer


def test_nothing_failed_nothing_asked(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", True, 1)
    assert factory.tick() == "No check that starts a retrain is failing."
    assert factory.entries() == []


def test_a_failed_check_is_one_request_that_says_why(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    request = requested(factory.tick())
    assert request.tags[CAUSE_TAG] == "feature_drift"
    assert request.tags[REQUEST_TAG] == request.run_key
    assert request.tags["factory/check/feature_drift"].split("@")[0].isdigit()
    opened, asked = factory.entries()
    assert (opened.state, asked.state) == ("open", "requested")
    assert opened.cause.key == asked.cause.key == "delay/all/feature_drift/v1/2013-07-10T14:00:00Z"
    assert opened.evaluated_at_utc <= opened.recorded_at_utc


def test_a_line_that_was_never_trained_is_trained(factory: Factory) -> None:
    factory.judge("model_age", False, 0)
    assert requested(factory.tick()).tags[CAUSE_TAG] == "model_age"


def test_a_check_that_the_policy_leaves_out_starts_nothing(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("prediction_drift", False, 1)
    factory.judge("feature_freshness", False, 1)
    assert isinstance(factory.tick(), str)


def test_killed_after_the_ledger_the_next_tick_asks_under_the_same_key(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    first = requested(factory.tick())
    assert requested(factory.tick()).run_key == first.run_key
    assert [entry.state for entry in factory.entries()] == ["open", "requested"]


def test_while_the_retrain_runs_nothing_more_is_asked(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    run = factory.start_run(requested(factory.tick()), dg.DagsterRunStatus.STARTED)
    assert "was requested" in str(factory.tick())
    factory.claim(run)
    assert run.run_id in str(factory.tick())


def test_while_a_run_is_judging_the_sensor_waits_for_all_verdicts(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    factory.instance.add_run(dg.DagsterRun(job_name="daily", run_id=dg_run_id(), status=dg.DagsterRunStatus.STARTED))
    assert "still judging" in str(factory.tick())


def test_while_a_run_is_judging_nothing_is_settled(factory: Factory) -> None:
    """Also when all is well so far: its verdicts may still ask for a retrain."""
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", True, 1)
    assert is_settled(factory.instance, factory.stores, NOW)
    run = dg.DagsterRun(job_name="monitor", run_id=dg_run_id(), status=dg.DagsterRunStatus.STARTED)
    factory.instance.add_run(run)
    assert not is_settled(factory.instance, factory.stores, NOW)
    factory.instance.report_run_canceled(run)
    assert is_settled(factory.instance, factory.stores, NOW)
    factory.judge("feature_drift", False, 1)
    assert not is_settled(factory.instance, factory.stores, NOW)


def test_failures_of_one_tick_are_one_run(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    factory.judge("model_age", False, 1)
    request = requested(factory.tick())
    assert request.tags[CAUSE_TAG] == "feature_drift, model_age"
    assert {entry.run_key for entry in factory.entries() if entry.state == "requested"} == {request.run_key}


def test_an_answered_cause_is_not_asked_again_and_a_replaced_model_not_either(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    request = requested(factory.tick())
    factory.resolve(factory.start_run(request, dg.DagsterRunStatus.SUCCESS), "promoted", version=2)
    assert isinstance(factory.tick(), str)


def test_a_kept_champion_on_the_same_data_is_an_answer_too(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    request = requested(factory.tick())
    factory.resolve(factory.start_run(request, dg.DagsterRunStatus.SUCCESS), "kept_champion")
    factory.judge("feature_drift", False, 1)
    assert "Already answered" in str(factory.tick())


def test_new_causes_wait_for_the_cooldown_and_then_are_served(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    request = requested(factory.tick())
    factory.resolve(factory.start_run(request, dg.DagsterRunStatus.SUCCESS), "promoted", version=2)
    later = NOW + timedelta(days=2)
    factory.clock.set(later)
    factory.judge("feature_drift", False, 2, later)
    assert "Cooling down until 2013-07-17" in str(factory.tick())
    factory.clock.set(NOW + timedelta(days=7))
    assert requested(factory.tick()).run_key != request.run_key


def test_a_run_whose_process_died_is_tried_again_at_once(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    first = requested(factory.tick())
    run = factory.start_run(first, dg.DagsterRunStatus.STARTED)
    assert mark_lost_runs(factory.instance) == [run.run_id]
    second = requested(factory.tick())
    assert second.run_key != first.run_key
    assert second.tags["factory/attempt"] == "2"
    assert [entry.state for entry in factory.entries()] == ["open", "requested", "lost", "requested"]


def test_however_often_the_factory_is_shut_down_the_retrain_comes(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    keys = set()
    for _ in range(6):
        request = requested(factory.tick())
        keys.add(request.run_key)
        factory.start_run(request, dg.DagsterRunStatus.STARTED)
        mark_lost_runs(factory.instance)
    assert len(keys) == 6


def test_a_worker_that_died_alone_is_a_failure_and_waits(factory: Factory) -> None:
    """One that eats all memory would die again at once."""
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    run = factory.start_run(requested(factory.tick()), dg.DagsterRunStatus.STARTED)
    factory.instance.report_run_failed(run, "the run worker crashed")
    assert "waiting until" in str(factory.tick())


def test_a_run_that_went_wrong_waits_for_its_backoff(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    factory.start_run(requested(factory.tick()), dg.DagsterRunStatus.CANCELED)
    assert "waiting until" in str(factory.tick())
    assert [entry.state for entry in factory.entries()] == ["open", "requested", "failed"]


def test_the_ledger_says_what_the_run_raised(factory: Factory) -> None:
    @dg.op
    def trains() -> None:
        raise ValueError("no rows of July\nand more that nobody reads in a list") from KeyError("July")

    @dg.job(name="delay__retrain")
    def retrains() -> None:
        trains()

    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    request = requested(factory.tick())
    run = retrains.execute_in_process(instance=factory.instance, tags=request.tags, raise_on_error=False)
    factory.tick()
    newest = factory.entries()[-1]
    assert (newest.state, newest.failures) == ("failed", 1)
    assert newest.reason == f"run {run.run_id} ended as failure without an answer: ValueError: no rows of July"


def test_the_newest_completed_evaluation_counts(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    assert len(read_failed_checks(factory.instance, check_keys(SPEC).items())) == 1
    factory.judge("feature_drift", True, 1)
    assert read_failed_checks(factory.instance, check_keys(SPEC).items()) == []


def test_a_planned_evaluation_does_not_hide_a_failure(factory: Factory) -> None:
    """A monitoring run that is just starting plans its checks; the last word is still the failed one."""
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)

    @dg.asset_check(asset=check_keys(SPEC)["feature_drift"].asset_key, name="feature_drift")
    def feature_drift() -> dg.AssetCheckResult:
        assert len(read_failed_checks(factory.instance, check_keys(SPEC).items())) == 1
        return dg.AssetCheckResult(passed=True)

    job = dg.define_asset_job("judge", selection=dg.AssetSelection.all_asset_checks())
    definitions = dg.Definitions(asset_checks=[feature_drift], jobs=[job])
    assert definitions.resolve_job_def("judge").execute_in_process(instance=factory.instance).success


def test_a_retrain_that_died_after_its_promotion_is_finished(factory: Factory) -> None:
    """The new champion serves, but its days were not scored and the ledger has no answer: the work goes on."""
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    first = requested(factory.tick())
    run = factory.start_run(first, dg.DagsterRunStatus.STARTED)
    factory.claim(run)
    promote(factory.lake, "delay", 2)
    assert mark_lost_runs(factory.instance) == [run.run_id]
    second = requested(factory.tick())
    factory.resolve(factory.start_run(second, dg.DagsterRunStatus.SUCCESS), "promoted")
    assert isinstance(factory.tick(), str)


def test_a_run_that_ended_without_an_answer_does_not_keep_the_line_waiting_for_ever(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    factory.start_run(requested(factory.tick()), dg.DagsterRunStatus.SUCCESS)
    assert "waiting until" in str(factory.tick())


@pytest.mark.parametrize(("asked", "enough"), [(4, True), (5, False), ("400%", True), ("401%", False)])
def test_new_labelled_rows_start_a_retrain_and_after_an_answer_count_anew(
    factory: Factory, tmp_path: Any, asked: int | str, enough: bool
) -> None:
    """One label was known when the model was trained, and four are new."""
    line = with_policy(factory, tmp_path, triggers=["new_rows"], new_rows=asked, cooldown="1m")
    promote(line.lake, "delay", 1)
    known = [TRAINED + timedelta(hours=hours) for hours in (-1, 1, 2, 3, 4, 24 * 365)]
    labels = pa.table({"late": [True] * 6, "known_at": pa.array(known, UTC_TIMESTAMP)})
    line.lake.replace(TableSpec("marts/fct_flight", labels.schema, ()), labels)
    answer = line.tick()
    assert isinstance(answer, dg.RunRequest) == enough
    if enough:
        line.resolve(line.start_run(requested(answer), dg.DagsterRunStatus.SUCCESS), "kept_champion")
        line.clock.set(NOW + timedelta(days=1))
        assert isinstance(line.tick(), str)


def test_a_schedule_starts_one_retrain_for_each_of_its_instants(factory: Factory, tmp_path: Any) -> None:
    line = with_policy(factory, tmp_path, triggers=["schedule"], schedule="0 3 * * 1", cooldown="1m")
    promote(line.lake, "delay", 1)
    asked = []
    for day in range(20):
        line.clock.set(NOW + timedelta(days=day))
        answer = line.tick()
        if isinstance(answer, dg.RunRequest):
            asked.append(day)
            line.resolve(line.start_run(answer, dg.DagsterRunStatus.SUCCESS), "kept_champion")
    assert asked == [0, 5, 12, 19]  # NOW is a Wednesday, the model is from May


def test_a_policy_that_only_alerts_starts_nothing_and_tells_a_person(factory: Factory, tmp_path: Any) -> None:
    line = with_policy(factory, tmp_path, action="alert_only")
    promote(line.lake, "delay", 1)
    line.judge("feature_drift", False, 1)
    assert "need a person" in str(line.tick())
    assert [entry.state for entry in line.entries()] == ["open", "raised"]


def test_a_failure_has_to_last_when_the_policy_says_so(factory: Factory, tmp_path: Any) -> None:
    line = with_policy(factory, tmp_path, confirm=2)
    promote(line.lake, "delay", 1)
    for _ in range(3):
        line.judge("feature_drift", False, 1)
        assert isinstance(line.tick(), str)
    line.judge("feature_drift", False, 1, NOW + timedelta(hours=1))
    assert requested(line.tick())


def test_a_run_that_takes_too_long_is_stopped_and_tried_again(factory: Factory, tmp_path: Any) -> None:
    line = with_policy(factory, tmp_path, timeout="1m", backoff="1m")
    promote(line.lake, "delay", 1)
    line.judge("feature_drift", False, 1)
    run = line.start_run(requested(line.tick()), dg.DagsterRunStatus.STARTED)
    line.claim(run)
    history = line.stores.ledger.history("delay")
    overdue = [replace(entry, next_step_at_utc=datetime.now(UTC)) for entry in history.of_line("delay")]
    assert line.stores.ledger.write(overdue, history.sequence)
    line.tick()
    assert [entry.state for entry in line.entries()][-1] == "expired"
    assert factory.instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.CANCELED


def test_a_second_run_of_one_request_has_nothing_to_do(factory: Factory) -> None:
    """As two daemons would launch it."""
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    request = requested(factory.tick())
    first, second = (factory.start_run(request, dg.DagsterRunStatus.STARTED) for _ in range(2))
    factory.claim(first)
    factory.claim(first)
    with pytest.raises(RequestClosedError, match=first.run_id):
        factory.claim(second)
    factory.resolve(first, "kept_champion")
    with pytest.raises(RequestClosedError, match="is closed"):
        factory.claim(second)


def test_a_retrain_by_hand_goes_through_the_ledger_and_answers_what_was_open(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    lost = factory.start_run(requested(factory.tick()), dg.DagsterRunStatus.CANCELED)
    factory.tick()
    by_hand = factory.instance.add_run(dg.DagsterRun("delay__retrain", dg_run_id(), status=dg.DagsterRunStatus.STARTED))
    factory.resolve(by_hand, "promoted", version=2)
    answers = {entry.cause.trigger: entry.run_id for entry in factory.entries() if entry.state == "promoted"}
    assert answers == {"feature_drift": by_hand.run_id, "by_hand": by_hand.run_id}
    assert lost.run_id != by_hand.run_id


def test_a_run_started_again_from_the_ui_is_started_by_hand(factory: Factory) -> None:
    promote(factory.lake, "delay", 1)
    factory.judge("feature_drift", False, 1)
    request = requested(factory.tick())
    again = dg.RunRequest(tags={**request.tags, "dagster/parent_run_id": "x"})
    run = factory.start_run(again, dg.DagsterRunStatus.STARTED)
    assert claimant_of("delay", run, ()).run_key == ""


# --- A check of the user's own ---

OWN = dg.AssetCheckKey(dg.AssetKey(["marts", "fct_flight"]), "no_gate_is_empty")


def with_own_check(factory: Factory, **policy: Any) -> Factory:
    spec = SPEC.model_copy(update={"retrain": RetrainSpec(cooldown="7d", **policy)})
    factory.sensor = build_retraining_sensor(spec, own_checks={"no_gate_is_empty": OWN})
    return factory


def judge_own(factory: Factory, passed: bool, **metadata: Any) -> None:
    factory.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(OWN.asset_key, OWN.name, passed, metadata=metadata, description="gate C7 is empty")
    )


def test_an_own_check_that_failed_is_one_retrain_and_only_a_later_failure_is_another(factory: Factory) -> None:
    with_own_check(factory, triggers=({"check": "no_gate_is_empty"},))
    promote(factory.lake, "delay", 1)
    judge_own(factory, False)
    request = requested(factory.tick())
    assert request.tags[CAUSE_TAG] == "no_gate_is_empty"
    run = factory.start_run(request, dg.DagsterRunStatus.STARTED)
    factory.resolve(run, "promoted", 2)
    factory.instance.report_run_failed(run)  # its end; the answer is in the ledger
    factory.clock.set(NOW + timedelta(days=8))
    # The verdict is about the model before, whose retrain has answered it.
    assert isinstance(factory.tick(), str)
    judge_own(factory, False)
    write_features(factory, NOW + timedelta(days=8))
    assert requested(factory.tick()).run_key != request.run_key


def test_an_own_check_that_passes_again_asks_for_nothing(factory: Factory) -> None:
    with_own_check(factory, triggers=({"check": "no_gate_is_empty"},))
    promote(factory.lake, "delay", 1)
    judge_own(factory, False)
    judge_own(factory, True)
    assert factory.tick() == "No check that starts a retrain is failing."


@pytest.mark.parametrize(
    "policy",
    [
        {"triggers": ({"check": "no_gate_is_empty", "when": "feature_drift"},)},
        {"triggers": ({"check": "no_gate_is_empty", "action": "alert_only"},)},
        {"triggers": ({"check": "no_gate_is_empty"},), "confirm": 2},
        {"triggers": ("model_age",)},
    ],
    ids=["only with drift", "only told", "not confirmed", "not named"],
)
def test_each_key_of_a_rule_with_an_own_check_changes_what_happens(policy: dict[str, Any], factory: Factory) -> None:
    with_own_check(factory, **policy)
    promote(factory.lake, "delay", 1)
    judge_own(factory, False)
    assert isinstance(factory.tick(), str)
    factory.judge("feature_drift", False, 1)
    assert isinstance(factory.tick(), dg.RunRequest) == ("when" in policy["triggers"][0])


def test_an_own_check_that_names_segments_asks_for_these_alone(factory: Factory) -> None:
    with_own_check(factory, triggers=({"check": "no_gate_is_empty"},))
    promote(factory.lake, "delay", 1)
    promote(factory.lake, "delay", 2, segment="AA~r1")
    judge_own(factory, False, failing_segments=["AA~r1"])
    request = requested(factory.tick())
    assert request.run_config["ops"]["delay__models"]["config"]["segments"] == ["AA~r1"]


def write_features(factory: Factory, newest: datetime) -> None:
    rows = pa.table({"flight_id": [1], "departs_at": pa.array([newest], UTC_TIMESTAMP)})
    factory.lake.replace(TableSpec("features/feat_flight", rows.schema, ("flight_id",)), rows)
