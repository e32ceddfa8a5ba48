"""How a fleet is seen in Dagster: a cell for each trained segment, a table of the last decisions, a check on what failed."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import dagster as dg

from factory_assets.components.metering import metered
from factory_assets.components.naming import (
    CAUSE_TAG,
    FAILING_SEGMENTS_METADATA,
    FOUND_BY_TAG,
    RANGE_EVENTS_SWITCH,
    models_key,
    range_tags,
    segment_partitions,
    segments_key,
)
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.metrics import unless_nan
from factory_assets.lines.training import TrainingOutcome
from factory_assets.resources import LakeResource
from factory_assets.storage.tables.promotion_history import PromotionHistory

# What is shown of a fleet in one table; all of it lies in `ops/promotions`.
_MOST_LISTED = 50
_MOST_FAILED_RUNS = 30
# Outcomes of a training that was tried.
_SHOWN = ("fitted", "failed")


def fleet_check_keys(spec: ModelLineSpec) -> list[dg.AssetCheckKey]:
    """The checks that only a fleet has: one, red while a segment could not be trained."""
    return [dg.AssetCheckKey(models_key(spec.name), "segments_trained")] if spec.segment_by else []


def build_failed_segments_check(spec: ModelLineSpec) -> dg.AssetChecksDefinition:
    """Red while the last training of a segment failed, with each one's reason; a retrain tries only those again."""
    (key,) = fleet_check_keys(spec)

    @dg.asset_check(asset=key.asset_key, name=key.name, description="The last training of every segment succeeded.")
    @metered("check", f"{key.asset_key.to_user_string()}:{key.name}", spec.name)
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        failed = PromotionHistory(lake.open()).failed_segments(spec.name)
        named = ", ".join(list(failed)[:3]) + (", …" if len(failed) > 3 else "")
        summary = f"{len(failed)} segments failed: {named}" if failed else "No segment failed."
        reasons = [dg.TableRecord({"segment": segment, "reason": reason}) for segment, reason in failed.items()]
        table = {"reasons": dg.MetadataValue.table(reasons[:_MOST_LISTED])} if reasons else {}
        metadata = {FAILING_SEGMENTS_METADATA: dg.MetadataValue.json(list(failed)), **table}
        return dg.AssetCheckResult(
            passed=not failed, severity=dg.AssetCheckSeverity.WARN, description=summary, metadata=metadata
        )

    return check


def show_segments(context: dg.AssetExecutionContext, spec: ModelLineSpec, outcome: TrainingOutcome) -> None:
    """Logs a materialization for each segment that was trained, and an observation with the reason for each that failed.

    About 5 ms a segment: those that were not looked at, or are too small for a model, stay as they are.
    """
    shown = [row for row in outcome.decisions if row["outcome"] in _SHOWN]
    if not shown:
        return
    context.instance.add_dynamic_partitions(segment_partitions(spec.name), [str(row["segment"]) for row in shown])
    for row in shown:
        event = dg.AssetObservation if row["outcome"] == "failed" else dg.AssetMaterialization
        context.log_event(
            event(
                segments_key(spec.name),
                partition=str(row["segment"]),
                metadata={**_describe_segment(spec, row), "cause": cause_of(context)},
            )
        )


def show_failures(context: dg.AssetExecutionContext, spec: ModelLineSpec, outcome: TrainingOutcome) -> None:
    """Turns the cell of each segment that failed red, until a later training of it succeeds.

    Dagster paints a partition red when the newest run that planned it by its name failed. A cycle that trained all but one
    of its segments has not failed, and a run over chosen cells plans them as a range, so the failures get runs of their
    own, which do nothing but fail with the reasons: 0.3 s each, one for neighbours, and at most `_MOST_FAILED_RUNS`, the
    longest rows of neighbours first; the check names all.
    """
    reasons = {str(row["segment"]): str(row["reason"]) for row in outcome.decisions if row["outcome"] == "failed"}
    known = context.instance.get_dynamic_partitions(segment_partitions(spec.name))
    for neighbours in sorted(_neighbours(known, reasons), key=len, reverse=True)[:_MOST_FAILED_RUNS]:
        with _planned_by_name():
            dg.materialize(
                [_build_failing_segments(spec, {segment: reasons[segment] for segment in neighbours})],
                instance=context.instance,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                tags={**range_tags(neighbours[0], neighbours[-1]), FOUND_BY_TAG: context.run_id},
                raise_on_error=False,
            )


def show_as_they_stood(
    context: dg.AssetExecutionContext, spec: ModelLineSpec, outcome: TrainingOutcome, chosen: Iterable[str]
) -> None:
    """Logs a materialization for each chosen segment that needed no training: a run without would count as failed."""
    reasons = {str(row["segment"]): row for row in outcome.decisions}
    told = _SHOWN if outcome.fitted else ("failed",)
    shown = {key for key, row in reasons.items() if row["outcome"] in told}
    for segment in sorted(set(chosen) - shown):
        state = _describe_segment(spec, reasons[segment]) if segment in reasons else {"state": "unchanged"}
        context.log_event(dg.AssetMaterialization(segments_key(spec.name), partition=segment, metadata=state))


def fail_for(reasons: Mapping[str, str]) -> dg.Failure:
    """The failure of a run over segments of which these failed."""
    told = "\n".join(f"{segment}: {reason}" for segment, reason in list(reasons.items())[:_MOST_LISTED])
    return dg.Failure(f"{len(reasons)} segments failed, all others are done:\n{told}", allow_retries=False)


def cause_of(context: dg.AssetExecutionContext) -> str:
    """Why this run trains: the cause that the sensor gave it, or that a person started it."""
    return str(context.run.tags.get(CAUSE_TAG, "started by hand"))


@contextmanager
def _planned_by_name() -> Iterator[None]:
    """Runs that are made here plan each partition by its name, whatever the installation chose for its ranges of days."""
    chosen = os.environ.pop(RANGE_EVENTS_SWITCH, None)
    try:
        yield
    finally:
        if chosen is not None:
            os.environ[RANGE_EVENTS_SWITCH] = chosen


def _build_failing_segments(spec: ModelLineSpec, reasons: Mapping[str, str]) -> dg.AssetsDefinition:
    """`<line>/segments` as a run sees it that only has to say how these segments fared."""

    @dg.asset(
        key=segments_key(spec.name),
        partitions_def=dg.DynamicPartitionsDefinition(name=segment_partitions(spec.name)),
        backfill_policy=dg.BackfillPolicy.single_run(),
        output_required=False,
    )
    def segments() -> None:
        raise fail_for(reasons)

    return segments


def _neighbours(known: Sequence[str], wanted: Collection[str]) -> list[list[str]]:
    """The wanted partitions in rows of neighbours: a run names a range of partitions by its ends.

    >>> _neighbours(["a", "b", "c", "d"], {"a", "b", "d"})
    [['a', 'b'], ['d']]
    """
    rows = groupby(known, key=lambda segment: segment in wanted)
    return [list(row) for is_wanted, row in rows if is_wanted]


def describe_fleet(outcome: TrainingOutcome) -> dict[str, Any]:
    """The fleet as a whole beside its global model, counts, and what failed first."""
    rows, cycle = outcome.decisions, outcome.cycle
    failed = [row for row in rows if row["outcome"] == "failed"]
    return {
        "segments_fitted": cycle.fitted,
        "segments_failed": len(failed),
        "segments_promoted": sum(bool(row["promoted"]) for row in rows),
        f"fleet_{cycle.metric}": unless_nan(cycle.fleet_value),
        f"global_{cycle.metric}": unless_nan(cycle.global_value),
        "exam_rows": cycle.exam_rows,
        FAILING_SEGMENTS_METADATA: dg.MetadataValue.json([row["segment"] for row in failed]),
        "segments": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "segment": row["segment"],
                        "state": row["outcome"],
                        "promoted": bool(row["promoted"]),
                        "serves": bool(row["serves"]),
                        "value": row["challenger_value"],
                        "parent": row["parent_value"],
                        "reason": row["reason"],
                    }
                )
                for row in sorted(rows, key=_worst_first)[:_MOST_LISTED]
            ]
        ),
    }


def _worst_first(row: dict[str, Any]) -> tuple[bool, bool, str]:
    return row["outcome"] != "failed", not row["promoted"], row["segment"]


def _describe_segment(spec: ModelLineSpec, row: dict[str, Any]) -> dict[str, Any]:
    values = {
        "champion_version": row["version"] if row["promoted"] else row["champion_before"],
        spec.metric: row["challenger_value"],
        f"champion_{spec.metric}": row["champion_value"],
        f"parent_{spec.metric}": row["parent_value"],
    }
    return {
        "state": row["outcome"],
        "version": row["version"],
        "promoted": bool(row["promoted"]),
        "serves": bool(row["serves"]),
        "reason": row["reason"],
        **{name: value for name, value in values.items() if value is not None},
    }
