"""Recorded model versions for tests that need a champion but no fit."""

from dataclasses import replace
from datetime import UTC, datetime

from factory_assets.contracts.reports import Evaluation, PromotionDecision
from factory_assets.storage.delta import Lake
from factory_assets.storage.model_versions import ONLY_SEGMENT, ModelVersion, ModelVersions

TRAINED = datetime(2013, 5, 1, 14, tzinfo=UTC)
_EVALUATION = Evaluation("roc_auc", 500, {"roc_auc": 0.7}, {"roc_auc": 0.5}, {"roc_auc": 0.6})


def build_version(line: str, version: int) -> ModelVersion:
    return ModelVersion(
        line=line,
        segment=ONLY_SEGMENT,
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


def promote(lake: Lake, line: str, version: int, now: datetime = TRAINED) -> ModelVersion:
    """Records a version and makes it champion."""
    versions = ModelVersions(lake)
    champion = versions.champion(line)
    recorded = replace(build_version(line, version), trained_at_utc=now)
    versions.record(recorded)
    decision = PromotionDecision(True, "better", 0.7, None)
    versions.decide(recorded, champion.version if champion else None, decision, now, "run")
    return recorded
