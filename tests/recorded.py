"""Recorded model versions for tests that need a champion but no fit."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa

from factory_assets.contracts.fleet import NodeDecision
from factory_assets.contracts.model_versions import ModelVersion
from factory_assets.contracts.reports import Evaluation
from factory_assets.contracts.segments import ALL
from factory_assets.core.models.artefacts import pack_model, stream_bundle
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake
from factory_assets.storage.tables.model_versions import ModelVersions
from factory_assets.storage.tables.predictions import Provenance

TRAINED = datetime(2013, 5, 1, 14, tzinfo=UTC)
_EVALUATION = Evaluation("roc_auc", 500, {"roc_auc": 0.7}, {"roc_auc": 0.5}, {"roc_auc": 0.6})


def bundle(models: Mapping[str, bytes]) -> bytes:
    """A file of raw models, as a cycle writes it."""
    return b"".join(stream_bundle({name: pack_model(raw) for name, raw in models.items()}))


def build_version(line: str, version: int) -> ModelVersion:
    return ModelVersion(
        line=line,
        segment=ALL,
        version=version,
        cycle=f"cycle-{version}",
        trained_at_utc=TRAINED,
        trained_until_utc=TRAINED,
        holdout_until_utc=TRAINED,
        training_set_version=0,
        feature_set_version=0,
        label_version=0,
        evaluation=_EVALUATION,
        numeric=("a",),
        categorical=(),
        artefact_path="x.bundle",
        artefact_sha256="0" * 64,
        estimator="sklearn.linear_model.LogisticRegression",
        sklearn_version="1.9.1",
        git_commit="unknown",
        mlflow_run_id="",
        dagster_run_id="",
    )


def decide(versions: ModelVersions, version: ModelVersion, promote: bool, now: datetime = TRAINED) -> None:
    """Records the gate's decision on one segment's version: promoted it serves, and else what served goes on."""
    before = versions.standing(version.line)
    standing = before.segments.get(version.segment)
    serves = promote or (standing is not None and standing.serves)
    champion_value = None if standing is None else 0.6
    reason = "better" if promote else "no better"
    decision = NodeDecision(version.segment, "fitted", promote, serves, reason, 0.7, champion_value, None)
    versions.decide(before, version.version, [(decision, version.cycle)], now, "run")


def promote(lake: Lake, line: str, version: int, now: datetime = TRAINED, segment: str = ALL) -> ModelVersion:
    """Records a version and makes it champion."""
    versions = ModelVersions(lake)
    recorded = replace(build_version(line, version), trained_at_utc=now, segment=segment)
    versions.record([recorded])
    decide(versions, recorded, promote=True, now=now)
    return recorded


def credit(rows: int, version: int, now: datetime, feature_set_version: int) -> Provenance:
    """Rows that were all scored by one version of the model of all rows."""
    segment = pa.repeat(pa.scalar(ALL), rows)
    return Provenance(
        segment=segment,
        model_segment=segment,
        model_version=pa.repeat(pa.scalar(version, pa.int64()), rows),
        trained_until_utc=pa.repeat(pa.scalar(now, UTC_TIMESTAMP), rows),
        feature_set_version=feature_set_version,
        scored_at_utc=now,
        run_id="run",
    )
