"""One policy from the first training to the last day: look, decide, train, and look again, as the sensor and its runs do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from factory_assets.contracts.backtest import ReplayedRetrain
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import CheckKind, ModelLineSpec
from factory_assets.contracts.model_versions import LineStanding
from factory_assets.contracts.retraining import FailedCheck, RetrainRequest, RunFact
from factory_assets.contracts.segments import ALL
from factory_assets.core.backtesting.moments import Moment
from factory_assets.core.retraining import LedgerBook, Situation, decide_retraining
from factory_assets.core.retraining.claims import Claimant, decide_answer, decide_claim
from factory_assets.core.retraining.confirmation import Verdict, confirm_failure
from factory_assets.core.training.time_split import TrainingDataError
from factory_assets.lines.backtesting.history import History
from factory_assets.lines.backtesting.paybacks import Paybacks
from factory_assets.lines.backtesting.reigns import Reign
from factory_assets.lines.backtesting.scores import ReplayedScores, Scorer
from factory_assets.lines.backtesting.trainings import ReplayedCycle, Trainings
from factory_assets.lines.backtesting.verdicts import Judge
from factory_assets.lines.backtesting.windows import FeatureWindows
from factory_assets.lines.retrain_situation import NewestInstant, apply_strategy, find_due

# As many verdicts of one check are looked back over as the sensor looks back over, for each state of the data.
_VERDICTS_A_STATE = 30


@dataclass
class Replay:
    """The line under one policy: its ledger, who reigns, its verdicts and predictions, and what it has cost.

    A run that fails gives no answer, and the next look finds it failed, as the sensor does: it is tried again after the
    policy's backoff, and raised after its attempts. The factory clock stands for the wall clock.
    """

    spec: ModelLineSpec
    calendar: CalendarSpec
    history: History
    trainings: Trainings
    scorer: Scorer
    windows: FeatureWindows
    newest_instant: NewestInstant
    book: LedgerBook = field(default_factory=LedgerBook)
    retrains: list[ReplayedRetrain] = field(default_factory=list)
    training_cpu_seconds: float = 0.0
    scoring_cpu_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Begins without a model."""
        self.reign = Reign(LineStanding(self.spec.name))
        self.scores = ReplayedScores.of(self.history)
        self._judge = Judge(self.spec, self.history, self.windows, self.scores)
        self._paybacks = Paybacks(self.spec, self.history, self.trainings.shelf)
        self._verdicts: dict[CheckKind, list[Verdict]] = {check: [] for check in self._judge.checks}
        self._runs: dict[str, RunFact] = {}
        self._last: ReplayedCycle | None = None

    def play(self, moments: Sequence[Moment], report: Callable[[Moment], None] = lambda moment: None) -> None:
        """Goes through the moments, in order."""
        for moment in moments:
            self.look(moment)
            report(moment)

    def look(self, moment: Moment) -> None:
        """One day: rows scored, checks judged, and what is asked for trained, until nothing more is asked for."""
        if self.reign.standing.serving:
            self._score(moment.days[0], moment.day, first_time=True)
        self._judge_all(moment)
        # What paid decides on cooldowns alone here, since no other line waits for the same place.
        if self.spec.retrain.payback.slower_by > 1:
            self._paybacks.judge(self.reign, moment)
        while True:
            requests = self._ask(moment)
            for request in requests:
                claimant = Claimant(self.spec.name, f"replayed {request.run_key}", request.run_key, request.segments)
                self._retrain(moment, claimant, request.triggers, request.strategy)
            if not requests and not self._is_first_by_hand(moment):
                return

    def _judge_all(self, moment: Moment) -> None:
        for check, verdicts in self._verdicts.items():
            verdicts.insert(0, self._judge.judge(check, self.reign, moment))
            del verdicts[self.spec.retrain.confirm * _VERDICTS_A_STATE :]

    def _ask(self, moment: Moment) -> Sequence[RetrainRequest]:
        """One tick of the sensor."""
        policy, history = self.spec.retrain, self.book.history()
        confirmed = (confirm_failure(verdicts, policy.confirm) for verdicts in self._verdicts.values())
        failed = [check for check in confirmed if check is not None]
        situation = Situation(
            line=self.spec.name,
            failed=[*failed, *self._due(moment)],
            serving=self.reign.versions,
            history=history,
            runs=self._runs,
            payments=self._paybacks.payments(self.book),
            now=moment.now,
            wall_now=moment.now,
        )
        decision = decide_retraining(policy, situation)
        self.book.write(decision.entries, history.sequence)
        return decision.requests

    def _due(self, moment: Moment) -> list[FailedCheck]:
        """What is due by itself, as `read_due` finds it."""
        champion = self.reign.champion
        if champion is None:
            return []
        answers = [answer.at_utc for answer in self.book.history().resolved.values()]
        clocks = moment.now, moment.now
        count = self.history.count_labels
        return find_due(self.spec, champion, answers, self.reign.versions, count, self.newest_instant, clocks)

    def _is_first_by_hand(self, moment: Moment) -> bool:
        """Trains a line without a model whose policy does not ask for the first one: in production a person does that."""
        if self.reign.versions or "model_age" in self.spec.retrain.named_triggers:
            return False
        claimant = Claimant(self.spec.name, f"replayed by hand on {moment.day}")
        return self._retrain(moment, claimant, ("by_hand",), None)

    def _retrain(self, moment: Moment, claimant: Claimant, triggers: tuple[str, ...], strategy: str | None) -> bool:
        """One run: claim, train, score again what a new champion is judged on, answer, judge. False when it failed."""
        policy, now = self.spec.retrain, moment.now
        history = self.book.history()
        claimed = decide_claim(claimant, history, self.reign.versions, now, now, policy.timeout)
        self.book.write(claimed, history.sequence)
        try:
            cycle = self.trainings.train(
                apply_strategy(self.spec, strategy), moment, self.reign, claimant.segments, self._last
            )
        except TrainingDataError as error:
            self._runs[claimant.key] = RunFact("failed", claimant.run_id, str(error))
            self.retrains.append(ReplayedRetrain(moment.day, now, triggers, "failed", str(error), 0.0))
            return False
        self.reign, self._last = cycle.reign, cycle
        self._paybacks.take_down(cycle.rows)
        self.training_cpu_seconds += cycle.cpu_seconds
        if cycle.decision.promote:
            self._score(self._window_start(moment), moment.day, first_time=False)
        history = self.book.history()
        answers = decide_answer(claimant, history, cycle.answers, now, now, policy.backoff, policy.max_attempts)
        self.book.write(answers, history.sequence)
        outcome = cycle.answers[ALL]
        self.retrains.append(ReplayedRetrain(moment.day, now, triggers, outcome.state, outcome.reason, cycle.cpu_seconds))
        self._judge_all(moment)
        return True

    def _score(self, first: date, last: date, *, first_time: bool) -> None:
        scored = self.scorer.score(self.reign, first, last)
        self.scoring_cpu_seconds += scored.cpu_seconds
        self.scores.write(self.history.of_days(first, last), scored, self.reign, first=first_time)

    def _window_start(self, moment: Moment) -> date:
        """The first day that a new champion scores again: that of the drift window, which the checks look at."""
        window_start = (moment.now - self.spec.drift.window).astimezone(ZoneInfo(self.calendar.timezone)).date()
        return max(self.calendar.start, min(moment.day, window_start))
