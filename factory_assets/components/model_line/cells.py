"""The cells of a fleet in Dagster: a partition for each segment, brought in line with what was decided on it.

A cell is green when its segment was trained, grey when it never had a model of its own, and red when its last training
failed. Each event carries the number of the decision that it shows as its data version, so what a killed run decided and
did not show, or what a new Dagster has never seen, is found by comparing, and shown by the next run.
"""

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from factory_assets.components.event_batches import batched_events, log_together, switched
from factory_assets.components.naming import (
    CAUSE_TAG,
    DATA_VERSION_TAG,
    FOUND_BY_TAG,
    RANGE_EVENTS_SWITCH,
    range_tags,
    segment_partitions,
    segments_key,
)
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.lines.stores import LineStores
from factory_assets.storage.tables.promotion_history import PromotionHistory

_MOST_LISTED = 50
# Most keys of a real fleet are too small for a model, and an event takes 1 ms: the rest is told by the next runs.
_MOST_UNTRAINED = 500
_TRIED = ("fitted", "failed")
_EVENT_TYPES = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)


def show_segments(context: dg.AssetExecutionContext, stores: LineStores, chosen: Collection[str] = ()) -> None:
    """Shows every decision that its cell does not show yet, whichever run took it.

    A materialization for a segment that was trained, an observation for one that failed or never had a model, and for both
    the state with its reason. A segment that stays without a model is told of when that state begins.

    Args:
        context: of the running step.
        stores: of the line.
        chosen: the partitions of the run. Each that did not fail has a materialization, for without one it would count as
            failed; `trained_in_this_run` tells whether that is more than a look at it.
    """
    spec = stores.spec
    news = PromotionHistory(stores.lake).news(spec.name)
    shown = _shown_decisions(context.instance, spec)
    untold = [row for row in news if str(row["sequence"]) not in shown.get(row["segment"], ())]
    # All at once, so that each can be seen and chosen, and those first that had another state.
    context.instance.add_dynamic_partitions(segment_partitions(spec.name), [row["segment"] for row in untold])
    _paint_failures(context, spec, {row["segment"]: row["reason"] for row in untold if row["outcome"] == "failed"})
    untrained = [row for row in untold if row["outcome"] not in _TRIED]
    untrained.sort(key=lambda row: row["segment"] not in shown)
    told = [row for row in untold if row["outcome"] in _TRIED] + untrained[:_MOST_UNTRAINED]
    asked = set(chosen)
    unnamed = asked - {row["segment"] for row in told}
    looked_at = [row for row in news if row["segment"] in unnamed and row["outcome"] != "failed"]
    events: list[dg.AssetMaterialization | dg.AssetObservation] = []
    for row in [*told, *looked_at]:
        # Once a cell has been green or red, only a materialization tells that it is no longer.
        known = row["outcome"] == "fitted" or row["segment"] in shown or row["segment"] in asked
        event = dg.AssetMaterialization if known and row["outcome"] != "failed" else dg.AssetObservation
        events.append(
            event(
                segments_key(spec.name),
                partition=row["segment"],
                metadata=_describe_segment(context, spec, row),
                tags={DATA_VERSION_TAG: str(row["sequence"])},
            )
        )
    log_together(context, events)


def fail_for(reasons: Mapping[str, str]) -> dg.Failure:
    """The failure of a run over segments of which these failed."""
    told = "\n".join(f"{segment}: {reason}" for segment, reason in list(reasons.items())[:_MOST_LISTED])
    return dg.Failure(f"{len(reasons)} segments failed, all others are done:\n{told}", allow_retries=False)


def cause_of(context: dg.AssetExecutionContext) -> str:
    """Why this run trains: the cause that the sensor gave it, or that a person started it."""
    return str(context.run.tags.get(CAUSE_TAG, "started by hand"))


def _shown_decisions(instance: dg.DagsterInstance, spec: ModelLineSpec) -> Mapping[str, set[str]]:
    """By segment, the decisions that its newest events show; an event that was wiped shows none."""
    shown: dict[str, set[str]] = {}
    storage, key = instance.event_log_storage, segments_key(spec.name)
    for event_type in _EVENT_TYPES:
        for segment, tags in storage.get_latest_tags_by_partition(key, event_type, [DATA_VERSION_TAG]).items():
            shown.setdefault(segment, set()).add(tags[DATA_VERSION_TAG])
    return shown


def _paint_failures(context: dg.AssetExecutionContext, spec: ModelLineSpec, reasons: Mapping[str, str]) -> None:
    """Turns the cell of each segment that failed red, until it has a materialization again.

    Dagster paints a partition red when the newest run that planned it by its name failed. A cycle that trained all but one
    of its segments has not failed, and a run over chosen cells plans them as a range, so the failures get a run of their
    own, which does nothing but fail with the reasons. To that run there are no other partitions, so that its range is they.
    """
    if not reasons:
        return
    failed = list(reasons)

    @dg.asset(
        key=segments_key(spec.name),
        partitions_def=dg.StaticPartitionsDefinition(failed),
        backfill_policy=dg.BackfillPolicy.single_run(),
        output_required=False,
    )
    def segments() -> None:
        raise fail_for(reasons)

    # Planned each by its name, whatever the installation chose for its ranges of days.
    with switched(RANGE_EVENTS_SWITCH, None), batched_events():
        dg.materialize(
            [segments],
            instance=context.instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={**range_tags(failed[0], failed[-1]), FOUND_BY_TAG: context.run_id},
            raise_on_error=False,
        )


def _describe_segment(context: dg.AssetExecutionContext, spec: ModelLineSpec, row: Mapping[str, Any]) -> dict[str, Any]:
    decided_here = row["dagster_run_id"] == context.run_id
    trained_at = row["trained_at_utc"]
    values = {
        "champion_version": row["version"] if row["promoted"] else row["champion_before"],
        spec.metric: row["challenger_value"],
        f"champion_{spec.metric}": row["champion_value"],
        f"parent_{spec.metric}": row["parent_value"],
        "trained_at": None if trained_at is None else dg.MetadataValue.timestamp(trained_at),
    }
    return {
        "state": row["outcome"],
        "version": row["version"],
        "promoted": bool(row["promoted"]),
        "serves": bool(row["serves"]),
        "reason": row["reason"],
        "trained_in_this_run": row["trained_in_run"] == context.run_id,
        "cause": cause_of(context) if decided_here else f"decided in run {row['dagster_run_id']}",
        **{name: value for name, value in values.items() if value is not None},
    }
