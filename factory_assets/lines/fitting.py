"""The training of what a plan says, on the executor that the line names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from factory_assets.compute.backends import available_cores, open_fan_out
from factory_assets.compute.chunks import Lost, plan_chunks
from factory_assets.compute.metered import MeteredFunction
from factory_assets.contracts.model_versions import LineStanding
from factory_assets.contracts.segments import ALL
from factory_assets.core.segments import Node
from factory_assets.core.training.segment_training import (
    ReigningModel,
    SegmentResult,
    SegmentTask,
    fit_chunk,
    say_too_small,
)
from factory_assets.core.training.time_split import TRAIN, TrainingDataError
from factory_assets.lines.planning import Plan
from factory_assets.lines.serving import ModelFiles
from factory_assets.lines.stores import LineStores
from factory_assets.storage.memory import give_back_memory

# Below so many fits the start of worker processes costs more than they save.
_LEAST_TO_FAN_OUT = 24
# Work that a segment costs whatever its size, in rows: a fit is mostly overhead on a few hundred of them.
_ROWS_A_FIT = 400


Keep = Callable[[SegmentResult], SegmentResult]


@dataclass(frozen=True)
class Fits:
    """One result a node, and the CPU seconds of each segment that was trained or tried, wherever that was."""

    results: Mapping[str, SegmentResult]
    cpu_seconds: Mapping[str, float]


def fit_plan(
    stores: LineStores,
    plan: Plan,
    before: LineStanding,
    bundles: ModelFiles,
    keep: Keep = lambda result: result,
) -> Fits:
    """Trains what is to be trained, and scores the later rows with the models that reign.

    Args:
        stores: of the line.
        plan: of the cycle.
        before: what was decided so far.
        bundles: the model files.
        keep: takes every result as it arrives, and gives what is to be held of it until the end.

    Raises:
        TrainingDataError: when the model of all rows was to be trained and could not be: without it nothing is served.
    """
    spec = plan.job.spec
    trained_rows = np.concatenate([[0], np.cumsum(plan.parts == TRAIN)])
    tasks: list[SegmentTask] = []
    results: dict[str, SegmentResult] = {}
    for node in plan.nodes:
        fit = node.segment in plan.to_fit
        reigning = _reigning(before, node, bundles)
        rows = int(trained_rows[node.start + node.length] - trained_rows[node.start])
        if fit and reigning is None and node.parent is not None and rows < spec.segments.min_rows:
            # Said without a task: most keys of a real fleet are small.
            results[node.segment] = keep(SegmentResult(node.segment, "too_small", say_too_small(spec, rows)))
        elif fit or reigning is not None:
            tasks.append(SegmentTask(node, fit, reigning))
        else:
            results[node.segment] = keep(SegmentResult(node.segment, "scored"))
    found, cpu_seconds = _run(stores, plan, tasks, keep)
    results.update(found)
    root = results.get(ALL)
    if root is not None and ALL in plan.to_fit and root.outcome != "fitted":
        raise TrainingDataError(f"model line {spec.name!r}: {root.reason}")
    return Fits(results, {segment: spent for segment, spent in cpu_seconds.items() if segment in plan.to_fit})


def _run(
    stores: LineStores, plan: Plan, tasks: Sequence[SegmentTask], keep: Keep
) -> tuple[dict[str, SegmentResult], dict[str, float]]:
    workers = stores.workers or available_cores()
    chunks = plan_chunks(tasks, lambda task: _ROWS_A_FIT + task.node.length, workers)
    executor = plan.job.spec.executor if len(tasks) >= _LEAST_TO_FAN_OUT else "serial"
    fan_out = open_fan_out(executor, workers, stores.ray_address)
    found: dict[str, SegmentResult] = {}
    cpu_seconds: dict[str, float] = {}
    # One thread: OpenMP threads that wait for a core which another process holds made a 1 s fit take 20 s.
    with threadpool_limits(limits=1):
        for task, metered in fan_out.map(MeteredFunction(partial(fit_chunk, plan.job)), chunks, plan.table):
            segment = task.node.segment
            if not found:
                # The workers have the rows: what their way there brought into this process is not needed again.
                plan.forget()
                give_back_memory()
            if isinstance(metered, Lost):
                found[segment] = keep(SegmentResult(segment, "failed", f"its worker died: {metered.reason}"))
            else:
                found[segment], cpu_seconds[segment] = keep(metered.result), metered.cpu_seconds
    return found, cpu_seconds


def _reigning(before: LineStanding, node: Node, bundles: ModelFiles) -> ReigningModel | None:
    standing = before.segments.get(node.segment)
    champion = standing.champion if standing is not None else None
    if champion is None:
        return None
    packed = bundles.packed(champion.artefact_path, champion.artefact_sha256)
    return ReigningModel(packed, champion.numeric, champion.categorical)
