"""What a retrain does in its step, whichever asset it was started through: claim, train, show, score again, answer."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from factory_assets.components.metering import note_segment_cpu
from factory_assets.components.model_line.cells import show_segments
from factory_assets.components.model_line.predictions import note_scored_days
from factory_assets.components.model_line.retrain_runs import answer_request, claim_request, claimant_of
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.core.calendar_days import closed_days
from factory_assets.lines.answers import list_answers
from factory_assets.lines.blocking import consecutive_days, find_blocked_days
from factory_assets.lines.scoring import score_days
from factory_assets.lines.stores import LineStores
from factory_assets.lines.training import TrainingOutcome, train_line


def run_retrain(
    context: dg.AssetExecutionContext,
    stores: LineStores,
    calendar: CalendarSpec,
    now: datetime,
    segments: Sequence[str],
    cells: Sequence[str] = (),
) -> TrainingOutcome:
    """Trains the line, or some of its segments; what serves anew scores the newest days again, and the ledger is told.

    Args:
        context: of the running step.
        stores: of the line.
        calendar: cuts its days.
        now: factory time.
        segments: to look at; none means the whole line.
        cells: the run's own partitions of `<line>/segments`.
    """
    spec = stores.spec
    claimant = claimant_of(spec.name, context.run, tuple(segments))
    claim_request(stores, claimant, now)
    outcome = train_line(stores, now, context.run_id, segments)
    note_segment_cpu(outcome.cpu_seconds)
    if spec.segment_by:
        show_segments(context, stores, cells)
    if outcome.decision.promote:
        note_scored_days(context, spec, _score_again(context, stores, calendar, now))
    # Last, so that a run which is cut off before is not taken for an answer.
    answers = list_answers(outcome.decision, outcome.decisions, outcome.cycle.version)
    answer_request(stores, claimant, answers, now)
    return outcome


def _score_again(context: dg.AssetExecutionContext, stores: LineStores, calendar: CalendarSpec, now: datetime) -> list[date]:
    """Scores the days of the drift window, which the checks at the end of the retrain look at; returns them.

    Days that wait for a broken feed keep waiting: they are scored when it is mended, and by the new champion then.
    """
    closed = closed_days(calendar, now)
    if closed is None:
        return []
    window_start = (now - stores.spec.drift.window).astimezone(ZoneInfo(calendar.timezone)).date()
    first = max(calendar.start, min(closed[1], window_start))
    days = {first + timedelta(days=position) for position in range((closed[1] - first).days + 1)}
    waiting = find_blocked_days(stores, days)
    for day, reason in waiting.items():
        context.log.warning(f"{stores.spec.name} does not score {day} again: {reason}")
    spans = consecutive_days(days - set(waiting))
    for span in spans:
        score_days(stores, span, calendar.timezone, now, context.run_id)
    return [day for span in spans for day in span]
