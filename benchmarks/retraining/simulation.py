"""Ticks of a factory of many models: checks fail again and again, runs fail, die and hang, sensors are killed."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import IN_FLIGHT, RESOLVED, FailedCheck, Outcome, Price, RetrainRequest, RunFact
from factory_assets.core.retraining import LedgerBook, Situation, decide_retraining
from factory_assets.core.retraining.budget import evaluate_capacity
from factory_assets.core.retraining.claims import Claimant, RequestClosedError, decide_answer, decide_claim

LINE = "fleet"
TICK = timedelta(minutes=30)
POLICY = RetrainSpec(cooldown="1h", backoff="10m", timeout="4h", max_attempts=4)
PRICE = Price(20.0, 2.0)


@dataclass
class Simulation:
    """A fleet on an in-memory ledger; every decision is the product's own."""

    models: int
    seed: int
    budget: RetrainBudgetSpec = field(default_factory=lambda: RetrainBudgetSpec(runs_at_once=4, segments_a_run=300))
    calm: bool = False
    book: LedgerBook = field(default_factory=LedgerBook)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    runs: dict[str, RunFact] = field(default_factory=dict)
    requests: dict[str, RetrainRequest] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)
    spent: dict[str, float] = field(default_factory=dict)
    spent_by_day: Counter[str] = field(default_factory=Counter)
    data: dict[str, int] = field(default_factory=dict)
    drifting: set[str] = field(default_factory=set)
    silent_ticks: Counter[str] = field(default_factory=Counter)
    longest_silence: int = 0
    longest_silence_while_alive: int = 0
    killed_in_a_row: int = 0
    most_killed_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.serving = {f"s{number:04}": 1 for number in range(self.models)}

    def play(self, ticks: int) -> None:
        """Plays ticks, then lets everything come to its end without further trouble."""
        for _ in range(ticks):
            self.step(trouble=not self.calm)
        self.drifting.clear()
        for _ in range(200):
            self.step(trouble=False)

    def step(self, trouble: bool) -> None:
        """Checks run, runs end, and the sensor ticks, all or some of it killed."""
        self.now += TICK
        if trouble:
            self._drift()
        self._end_runs(trouble)
        failed = self._checks()
        decision = decide_retraining(POLICY, self._situation(failed))
        killed_before = trouble and self.random.random() < 0.05
        if not killed_before and self.book.write(decision.entries, self.book.sequence):
            if not (trouble and self.random.random() < 0.1):  # killed between ledger and run
                for request in decision.requests:
                    self._start(request)
            for run_id in decision.stop_run_ids:
                self._stop(run_id)
        self.killed_in_a_row = self.killed_in_a_row + 1 if killed_before else 0
        self.most_killed_in_a_row = max(self.most_killed_in_a_row, self.killed_in_a_row)
        self._note_silence(failed)

    def _situation(self, failed: list[FailedCheck]) -> Situation:
        history = self.book.history()
        today = self.spent_by_day[self.now.date().isoformat()]
        capacity = evaluate_capacity(self.budget, history, today, self.spent, self.now)
        return Situation(LINE, failed, self.serving, history, self.runs, self.now, self.now, capacity=capacity, price=PRICE)

    def _drift(self) -> None:
        for segment in self.random.sample(sorted(self.serving), max(1, self.models // 50)):
            (self.drifting.discard if segment in self.drifting else self.drifting.add)(segment)
            self.data[segment] = self.data.get(segment, 0) + 1

    def _checks(self) -> list[FailedCheck]:
        """One verdict for all segments; its data moves on with the clock."""
        if not self.drifting:
            return []
        found = tuple(sorted(self.drifting))
        return [FailedCheck("feature_drift", 1, "run", 1, self.now, "drifted", found, self.now)]

    def _start(self, request: RetrainRequest) -> None:
        if request.run_key in self.started:  # Dagster starts a run key once
            return
        self.started[request.run_key] += 1
        self.requests[request.run_key] = request
        self.runs[request.run_key] = RunFact("active", f"run of {request.run_key}", "started")

    def _stop(self, run_id: str) -> None:
        for run_key, fact in list(self.runs.items()):
            if fact.run_id == run_id:
                self.runs[run_key] = RunFact("failed", run_id, "stopped")

    def _end_runs(self, trouble: bool) -> None:
        for run_key, fact in list(self.runs.items()):
            if fact.state != "active":
                continue
            claimant = Claimant(LINE, fact.run_id, run_key)
            try:
                steps = decide_claim(claimant, self.book.history(), self.serving, self.now, self.now, POLICY.timeout)
                self.book.write(steps, self.book.sequence)
                self._spend(run_key)
                fate = self.random.choices(("ends", "fails", "dies", "hangs"), (6, 2, 1, 1))[0] if trouble else "ends"
                if fate == "ends":
                    self._answer(claimant)
                    del self.runs[run_key]
                elif fate != "hangs":
                    self.runs[run_key] = RunFact("failed" if fate == "fails" else "lost", fact.run_id, fate)
            except RequestClosedError:
                self.runs[run_key] = RunFact("failed", fact.run_id, "the request was closed")

    def _spend(self, run_key: str) -> None:
        """What the run takes, up to all that was set aside for it."""
        if run_key in self.spent:
            return
        reserved = sum(e.reserved_cpu_seconds for e in self.book.history().unsettled.values() if e.run_key == run_key)
        self.spent[run_key] = reserved * self.random.uniform(0.3, 1.0)
        self.spent_by_day[self.now.date().isoformat()] += self.spent[run_key]

    def _answer(self, claimant: Claimant) -> None:
        mine = {e.cause.segment for e in self.book.history().of_line(LINE) if e.run_key == claimant.key}
        outcomes = {}
        for segment in sorted(mine):  # whatever the hashes of this process are
            promoted = self.random.random() < 0.6
            outcomes[segment] = Outcome("promoted" if promoted else "kept_champion", "so said the gate", 1)
            if promoted:
                self.serving[segment] += 1
                self.drifting.discard(segment)
        history = self.book.history()
        steps = decide_answer(claimant, history, outcomes, self.now, self.now, POLICY.backoff, POLICY.max_attempts)
        self.book.write(steps, self.book.sequence)

    def _note_silence(self, failed: list[FailedCheck]) -> None:
        """Counts, for each failing segment, the ticks after which the ledger does not say what comes next.

        Ticks in which the sensor was killed count; beside that, the longest silence is kept without those, since no sensor
        can write while it is dead.
        """
        newest = {e.cause.segment: e for e in self.book.history().unsettled.values()}
        answered = self.book.history().resolved
        for segment in self.serving:
            entry = newest.get(segment)
            overdue = (
                entry is not None
                and entry.state not in IN_FLIGHT
                and entry.next_step in ("cooldown", "backoff")
                and entry.next_step_at_utc is not None
                and entry.next_step_at_utc < self.now
            )
            fails = any(segment in check.segments for check in failed)
            just_answered = (LINE, segment) in answered and answered[LINE, segment].recorded_at_utc == self.now
            silent = overdue or (fails and entry is None and not just_answered)
            silent = silent or (entry is not None and entry.next_step == "none")
            self.silent_ticks[segment] = self.silent_ticks[segment] + 1 if silent else 0
            self.longest_silence = max(self.longest_silence, self.silent_ticks[segment])
            alive = self.silent_ticks[segment] - self.killed_in_a_row
            self.longest_silence_while_alive = max(self.longest_silence_while_alive, alive)

    def wrong_causes(self) -> int:
        """Causes that were asked for and do not end with exactly one answer, one person, or nothing left to answer."""
        answers = Counter(entry.cause.key for entry in self.book.entries if entry.state in RESOLVED)
        newest = {entry.cause.key: entry.state for entry in self.book.entries}
        ended = {"promoted": 1, "kept_champion": 1, "superseded": 0, "raised": 0}
        return sum(ended.get(state, -1) != answers[key] for key, state in newest.items())
