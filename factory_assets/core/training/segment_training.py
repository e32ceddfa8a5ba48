"""One chunk of a fleet: each segment fitted and evaluated by itself, so that no segment's trouble is another's.

The work is a pure function of a table, a job and the tasks, and all four of them pickle: where it runs, on how many workers
and in which order changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pyarrow as pa

from factory_assets.contracts.estimators import AllowedEstimator, allow_estimators, extra_estimators
from factory_assets.contracts.fleet import SegmentOutcome
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import Evaluation
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.models.artefacts import (
    AnyModel,
    CorruptArtefactError,
    UntrustedArtefactError,
    pack_model,
    pickle_model,
    unpack_payload,
    unpickle_model,
)
from factory_assets.core.models.features import table_kinds
from factory_assets.core.models.prediction import predict_scores
from factory_assets.core.segments import Node
from factory_assets.core.training.fit import TrainedModel, fit_and_evaluate, name_features
from factory_assets.core.training.time_split import (
    LABEL,
    SingleClassError,
    TimeSplit,
    TooFewRowsError,
    check_classes,
    check_rows,
    cut_by_time,
)


@dataclass(frozen=True)
class FitJob:
    """What all segments of one cycle have in common.

    `numeric` and `categorical` are the features by the types of the whole table: a segment may hold nothing but nulls.
    """

    spec: ModelLineSpec
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    holdout_until_utc: datetime
    # A worker knows no settings, and shall allow what this installation allows.
    extra_estimators: Mapping[str, AllowedEstimator] = field(default_factory=extra_estimators)


@dataclass(frozen=True)
class ReigningModel:
    """The model that is champion until now, as it lies in its file; it is unpickled only if the hash is right.

    `packed` is None when the file is gone.
    """

    packed: AnyModel | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


@dataclass(frozen=True)
class SegmentTask:
    """One segment's rows in the table, whether to fit them, and the model to compare with."""

    node: Node
    fit: bool = True
    reigning: ReigningModel | None = None

    @property
    def is_root(self) -> bool:
        """Whether this is the model of all rows, which has no parent to fall back on."""
        return self.node.parent is None


@dataclass(frozen=True)
class SegmentResult:
    """What became of one task.

    Scores are float64, one a row of the segment's holdout and then of its exam, in the order of the table; they are None
    where no model gave any. `trained` and `model` are there when the outcome is `fitted`. `reigning` is the reigning
    model's evaluation on the same holdout, without a value when it could not be loaded.
    """

    segment: str
    outcome: SegmentOutcome
    reason: str = ""
    trained: TrainedModel | None = None
    model: AnyModel | None = None
    scores: np.ndarray | None = None
    reigning_scores: np.ndarray | None = None
    reigning: Evaluation | None = None


def build_job(spec: ModelLineSpec, table: pa.Table, holdout_until_utc: datetime) -> FitJob:
    """The job of a cycle over `table`, whose columns are the line's keys, its features and the label.

    Raises:
        ValueError: for a feature that is absent, or neither a number nor text.
    """
    numeric, categorical = table_kinds(table, name_features(spec, table.column_names))
    return FitJob(spec, tuple(numeric), tuple(categorical), holdout_until_utc)


def fit_chunk(job: FitJob, table: pa.Table, tasks: Sequence[SegmentTask]) -> Iterator[SegmentResult]:
    """Yields one result a task, in their order; what a segment suffers is its result, and never raised."""
    allow_estimators(job.extra_estimators)
    for task in tasks:
        yield fit_segment(job, table, task)


def fit_segment(job: FitJob, table: pa.Table, task: SegmentTask) -> SegmentResult:
    """Fits one segment, or says why not, and scores the same later rows with the reigning model.

    A segment of a fleet needs `segments.min_rows` training rows, the model of all rows `validation.min_rows` on both
    sides of the cut. With equal rows, spec and library versions the model has equal bytes.
    """
    rows = _columns_of(job, table, task).slice(task.node.start, task.node.length)
    try:
        split = split_segment(job.spec, rows, job.holdout_until_utc)
        result = _score_reigning(job, split, task)
    except Exception as error:
        return SegmentResult(task.node.segment, "failed", _describe(error))
    if not task.fit:
        return result
    try:
        if task.is_root:
            check_rows(split, job.spec.validation.min_rows)
        else:
            _check_segment(split, job.spec)
        # Handed over and not lent: once they are a matrix, the rows need not be here as well.
        handed = [split]
        del split
        trained = fit_and_evaluate(job.spec, handed.pop(), (job.numeric, job.categorical), with_baseline=task.is_root)
        model = pack_model(pickle_model(trained.model))
    except TooFewRowsError as error:
        return replace(result, outcome="too_small", reason=str(error))
    except SingleClassError as error:
        return replace(result, outcome="single_class", reason=str(error))
    except Exception as error:
        return replace(result, outcome="failed", reason=_describe(error))
    scores = np.concatenate([trained.holdout_scores, trained.exam_scores])
    # The pipeline itself stays behind: it travels as bytes.
    return replace(result, outcome="fitted", trained=replace(trained, model=None), model=model, scores=scores)


def _columns_of(job: FitJob, table: pa.Table, task: SegmentTask) -> pa.Table:
    """What the fit and the reigning model read: of rows that are not neighbours in time, a copy is made."""
    spec, reigning = job.spec, task.reigning
    read = {*spec.row_key, LABEL, *job.numeric, *job.categorical}
    read |= {*reigning.numeric, *reigning.categorical} if reigning is not None else set()
    return table.select([name for name in table.column_names if name in read])


def split_segment(spec: ModelLineSpec, rows: pa.Table, holdout_until_utc: datetime) -> TimeSplit:
    """Cuts rows where the line says."""
    validation = spec.validation
    return cut_by_time(rows, spec.as_of, validation.holdout, validation.window, holdout_until_utc, spec.exam_span)


def say_too_small(spec: ModelLineSpec, rows: int) -> str:
    """Why a segment of `rows` training rows has no model of its own."""
    return f"{rows} training rows, and segments.min_rows is {spec.segments.min_rows}"


def _check_segment(split: TimeSplit, spec: ModelLineSpec) -> None:
    if len(split.train) < spec.segments.min_rows:
        raise TooFewRowsError(say_too_small(spec, len(split.train)))
    check_classes(split)


def _score_reigning(job: FitJob, split: TimeSplit, task: SegmentTask) -> SegmentResult:
    """The reigning model on the holdout and the exam; no scores when it cannot be loaded, for then it protects nothing."""
    result, reigning = SegmentResult(task.node.segment, "scored"), task.reigning
    if reigning is None:
        return result
    result = replace(result, reigning=Evaluation(job.spec.metric, len(split.holdout), {}, {}, {}))
    if reigning.packed is None or not set(reigning.numeric + reigning.categorical) <= set(split.holdout.column_names):
        return result
    try:
        raw = unpack_payload(reigning.packed, task.node.segment)
        model = unpickle_model(raw, reigning.packed.sha256)
    except (CorruptArtefactError, UntrustedArtefactError) as error:
        return replace(result, reason=_describe(error))
    scores = predict_scores(model, split.later, reigning.numeric, reigning.categorical, job.spec.task)
    judged = len(split.holdout)
    metrics = evaluate_metrics(job.spec.task, split.holdout[LABEL].to_numpy(), scores[:judged])
    return replace(result, reigning_scores=scores, reigning=Evaluation(job.spec.metric, judged, metrics, {}, {}))


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
