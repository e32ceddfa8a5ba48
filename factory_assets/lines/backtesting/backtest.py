"""A backtest: several policies of one line over the same days and rows, and what tells one from another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
from threadpoolctl import threadpool_limits

from factory_assets.contracts.backtest import BacktestReport, Difference, PolicyOutcome
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.costs import Usage
from factory_assets.contracts.model_line import METRICS, CheckKind, ModelLineSpec
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.core.backtesting.comparison import Gain, JudgedRows, evaluate_gains, evaluate_weeks
from factory_assets.core.backtesting.moments import Moment, list_moments
from factory_assets.core.backtesting.policies import OWN, build_policy, check_policies
from factory_assets.core.costs import price_of
from factory_assets.core.metrics import evaluate_metric
from factory_assets.lines.backtesting.history import History, NothingToReplayError, read_history
from factory_assets.lines.backtesting.replay import Replay
from factory_assets.lines.backtesting.scores import Scorer
from factory_assets.lines.backtesting.trainings import Trainings
from factory_assets.lines.backtesting.windows import FeatureWindows
from factory_assets.lines.retrain_situation import NewestInstant
from factory_assets.lines.stores import LineStores

_HOLDOUTS_BEFORE_THE_FIRST = 4
_REPLAYED: frozenset[CheckKind | str] = frozenset(
    {
        "model_age",
        "feature_drift",
        "prediction_drift",
        "label_drift",
        "quality",
        "estimated_quality",
        "new_rows",
        "schedule",
    }
)
Report = Callable[[str], None]


class PolicyNotReplayableError(ValueError):
    """A policy rests on something that the tables do not keep."""


@dataclass(frozen=True)
class Plan:
    """What is to be replayed. Absent days: from when the history is four holdouts long, up to its newest day.

    `against` is the policy that the others are compared with.
    """

    policies: tuple[str, ...]
    against: str
    first: date | None = None
    last: date | None = None
    price_per_cpu_hour: float = 0.0


def run_backtest(
    stores: LineStores,
    calendar: CalendarSpec,
    plan: Plan,
    newest_instant: NewestInstant,
    report: Report = lambda text: None,
) -> BacktestReport:
    """Replays every policy of the plan; reads the lake, and writes nothing anywhere.

    Args:
        stores: of the line.
        calendar: parts the days, and says when the factory looks.
        plan: policies and days.
        newest_instant: of a cron expression, not after a moment.
        report: is told how far it has come.

    Raises:
        UnknownPolicyError: for a name that is no policy.
        PolicyNotReplayableError: for a trigger that has no history.
        NothingToReplayError: when there are no such days, or no first model can be trained in them.
    """
    backtest = Backtest.open(stores, calendar, plan, newest_instant)
    for name in backtest.policies:
        replay = backtest.play(name)
        report(f"{name}: {len(replay.retrains)} retrains, {backtest.trainings.fits} fits so far")
    return backtest.compare(plan.against)


@dataclass
class Backtest:
    """A backtest in the making: its policies are played one by one, and those that were played can be compared."""

    plan: Plan
    calendar: CalendarSpec
    policies: Mapping[str, RetrainSpec]
    history: History
    moments: Sequence[Moment]
    trainings: Trainings
    scorer: Scorer
    windows: FeatureWindows
    newest_instant: NewestInstant
    replays: dict[str, Replay] = field(default_factory=dict)

    @classmethod
    def open(cls, stores: LineStores, calendar: CalendarSpec, plan: Plan, newest_instant: NewestInstant) -> "Backtest":
        """Reads the history; raises as `run_backtest` does."""
        spec = stores.spec
        names = check_policies((*plan.policies, plan.against))
        policies = {name: _check_triggers(name, build_policy(name, spec.retrain)) for name in names}
        history = read_history(stores.lake, spec, calendar.timezone)
        moments = list_moments(calendar, *choose_days(spec, history, plan.first, plan.last))
        trainings = Trainings(stores, history)
        scorer = Scorer(history, trainings.shelf)
        return cls(plan, calendar, policies, history, moments, trainings, scorer, FeatureWindows(history), newest_instant)

    def play(self, name: str) -> Replay:
        """Plays one policy of the plan over all its days."""
        spec = self.history.spec.model_copy(update={"retrain": self.policies[name]})
        replay = Replay(spec, self.calendar, self.history, self.trainings, self.scorer, self.windows, self.newest_instant)
        # One thread, as a training and a scoring have in production; entered once, since each time costs 10 ms.
        with threadpool_limits(limits=1):
            replay.play(self.moments)
        self.replays[name] = replay
        return replay

    def compare(self, against: str) -> BacktestReport:
        """The report on what was played so far."""
        plan = replace(self.plan, against=against)
        return _compare(self.history.spec, plan, self.history, self.moments, self.replays, self.trainings)


def choose_days(spec: ModelLineSpec, history: History, first: date | None, last: date | None) -> tuple[date, date]:
    """The first and last day of a replay, within the history.

    Raises:
        NothingToReplayError: when no day lies between them.
    """
    early = history.first_day + _HOLDOUTS_BEFORE_THE_FIRST * spec.validation.holdout - timedelta(days=1)
    begin, end = first or early, min(last or history.last_day, history.last_day)
    if begin < history.first_day or begin >= end:
        raise NothingToReplayError(
            f"{spec.name}: there is no day to judge from {begin} to {end}; the history goes from {history.first_day} to "
            f"{history.last_day}, and by default the first model is trained at the end of {early}: "
            "name an earlier day with --from"
        )
    return begin, end


def _check_triggers(name: str, policy: RetrainSpec) -> RetrainSpec:
    unknown = [trigger for trigger in policy.named_triggers if trigger not in _REPLAYED]
    if unknown:
        which = f"the policy {name!r}" if name != OWN else "the line's own policy"
        raise PolicyNotReplayableError(
            f"{which} is triggered by {', '.join(unknown)}, whose verdicts on past days cannot be had from the tables: "
            f"replay other policies, with --policy, or one that is triggered by {', '.join(sorted(_REPLAYED))}"
        )
    return policy


def _compare(
    spec: ModelLineSpec,
    plan: Plan,
    history: History,
    moments: Sequence[Moment],
    replays: Mapping[str, Replay],
    trainings: Trainings,
) -> BacktestReport:
    place = history.of_days(moments[0].day + timedelta(days=1), moments[-1].day)
    judged = np.isfinite(history.labels[place])
    for replay in replays.values():
        judged &= np.isfinite(replay.scores.first[place])
    if not judged.any():
        reasons = next((replay.retrains[-1].reason for replay in replays.values() if replay.retrains), "no row has a label")
        raise NothingToReplayError(f"{spec.name}: no row was scored under every policy up to {moments[-1].day}: {reasons}")
    rows = JudgedRows(history.labels[place][judged], history.days[place][judged])
    scores = {name: replay.scores.first[place][judged] for name, replay in replays.items()}
    gains = evaluate_gains(spec.metric, rows, scores, plan.against, spec.validation.seed)
    against = replays[plan.against]
    outcomes = [
        _outcome(spec, plan, name, replays[name], rows, scores[name], gains.get(name), _cpu(against)) for name in replays
    ]
    return BacktestReport(
        line=spec.name,
        metric=spec.metric,
        higher_is_better=METRICS[spec.metric][1],
        first=moments[0].day,
        last=moments[-1].day,
        rows=len(rows.labels),
        feature_set_version=history.feature_set_version,
        label_version=history.label_version,
        fits=trainings.fits,
        fit_cpu_seconds=trainings.fit_cpu_seconds,
        policies=tuple(outcomes),
    )


def _outcome(
    spec: ModelLineSpec,
    plan: Plan,
    name: str,
    replay: Replay,
    rows: JudgedRows,
    scores: np.ndarray,
    gain: Gain | None,
    others_cpu: float,
) -> PolicyOutcome:
    cpu = _cpu(replay)
    saved = 1 - cpu / others_cpu if others_cpu > 0 else 0.0
    difference = None if gain is None else Difference(plan.against, gain.gain, gain.low, gain.high, saved)
    return PolicyOutcome(
        policy=name,
        triggers=replay.spec.retrain.named_triggers,
        retrains=tuple(replay.retrains),
        value=evaluate_metric(spec.metric, rows.labels, scores),
        weeks=evaluate_weeks(spec.metric, rows, scores),
        training_cpu_seconds=replay.training_cpu_seconds,
        scoring_cpu_seconds=replay.scoring_cpu_seconds,
        price=price_of(Usage(cpu, 0.0, 0.0, 0, 0, 0), plan.price_per_cpu_hour),
        difference=difference,
    )


def _cpu(replay: Replay) -> float:
    return replay.training_cpu_seconds + replay.scoring_cpu_seconds
