"""Assembles the definitions of one model line."""

from pathlib import Path

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string

from factory_assets.components.budget import find_budget
from factory_assets.components.calendar import find_calendar
from factory_assets.components.dbt_project import DbtProject, find_columns, find_sources
from factory_assets.components.declared import DeclaredComponent
from factory_assets.components.model_line.checks import build_checks
from factory_assets.components.model_line.fleet import build_failed_segments_check
from factory_assets.components.model_line.own_checks import find_own_checks, name_problems, resolve_own_checks
from factory_assets.components.model_line.paybacks import build_paybacks_asset
from factory_assets.components.model_line.predictions import build_predictions_asset
from factory_assets.components.model_line.report import build_report_asset
from factory_assets.components.model_line.retraining import build_retrain_job, build_retraining_sensor
from factory_assets.components.model_line.scoring_left_days import build_left_days_sensor
from factory_assets.components.model_line.training import (
    build_models_asset,
    build_segments_asset,
    build_training_set_asset,
)
from factory_assets.contracts.declarations import Problem
from factory_assets.contracts.estimators import BUILT_IN
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.names import suggest
from factory_assets.core.models.estimators import find_absent_params

FEATURES_FOLDER = Path("models/features")
MARTS_FOLDER = Path("models/marts")
_COLUMN_KEYS = ("entity", "segment_by", "features")


class ModelLine(DeclaredComponent[ModelLineSpec]):
    """One registered model with its feature set, label, gate, checks and retrain policy."""

    spec_model = ModelLineSpec

    @classmethod
    def find_problems(cls, spec: ModelLineSpec, file: str, context: dg.ComponentLoadContext) -> list[Problem]:
        """The feature set and the label's mart must be models of the dbt project, with the columns that the line names."""
        problems = []
        if find_calendar(context) is None:
            problems.append(Problem(file, 1, "", "there is no calendar: add defs/calendar/defs.yaml"))
        projects = context.component_tree.get_all_components(of_type=DbtProject)
        roots = [context.project_root / project.spec.path for project in projects if not project.problems]
        for key, name, folder in (
            ("feature_set", spec.feature_set, FEATURES_FOLDER),
            ("label.model", spec.label.model, MARTS_FOLDER),
        ):
            known = sorted(path.stem for root in roots for path in (root / folder).rglob("*.sql"))
            if name not in known:
                problems.append(Problem(file, 1, key, f"{name!r} is no dbt model in {folder}: {suggest(name, known)}"))
        problems += _name_absent_columns(spec, file, context)
        problems += _name_absent_params(spec, file)
        problems += _name_absent_features(spec, file, context)
        schedule = spec.retrain.schedule
        if schedule is not None and not is_valid_cron_string(schedule):
            problems.append(Problem(file, 1, "retrain.schedule", f"{schedule!r} is no cron: five fields, as in '0 3 * * 1'"))
        if spec.retrain.own_checks or spec.blocked_by:
            problems += name_problems(spec, file, find_own_checks(context))
        return problems

    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Five assets, eight checks, one job, one sensor; for a fleet one more asset and check, never one for a segment."""
        calendar = find_calendar(context)
        if calendar is None:
            raise LookupError("a model line needs a calendar")
        sources = find_sources(context, [self.spec.feature_set, self.spec.label.model])
        names = (*self.spec.retrain.own_checks, *self.spec.blocked_by)
        own = resolve_own_checks(names, find_own_checks(context) if names else [])
        blocking = {name: own[name] for name in self.spec.blocked_by}
        left_days = [build_left_days_sensor(self.spec, calendar, sources, blocking)] if blocking else []
        is_fleet = bool(self.spec.segment_by)
        return dg.Definitions(
            assets=[
                build_training_set_asset(self.spec),
                build_models_asset(self.spec, calendar, sources, blocking),
                build_predictions_asset(self.spec, calendar, sources, blocking),
                build_report_asset(self.spec),
                build_paybacks_asset(self.spec, find_budget(context) is not None),
                *([build_segments_asset(self.spec, calendar, sources, blocking)] if is_fleet else []),
            ],
            asset_checks=[
                *build_checks(self.spec, calendar, sources, blocking),
                *([build_failed_segments_check(self.spec)] if is_fleet else []),
            ],
            jobs=[build_retrain_job(self.spec)],
            sensors=[
                build_retraining_sensor(
                    self.spec,
                    find_budget(context),
                    sources,
                    {name: own[name] for name in self.spec.retrain.own_checks},
                ),
                *left_days,
            ],
        )


def _name_absent_columns(spec: ModelLineSpec, file: str, context: dg.ComponentLoadContext) -> list[Problem]:
    """Columns that the feature set, or the label's mart, does not have; where its SQL does not name all, a run tells."""
    named: dict[str, list[tuple[str, str]]] = {
        spec.feature_set: [
            *((f"{key}.{place}", name) for key in _COLUMN_KEYS for place, name in enumerate(getattr(spec, key))),
            ("as_of", spec.as_of),
        ],
        spec.label.model: [
            *((f"entity.{place}", name) for place, name in enumerate(spec.entity)),
            ("label.column", spec.label.column),
            ("label.known_at", spec.label.known_at),
        ],
    }
    problems = []
    for model, columns in named.items():
        known = find_columns(context, model)
        for key, name in columns:
            if known is not None and name.lower() not in known:
                problems.append(Problem(file, 1, key, f"{model} has no column {name!r}: {suggest(name, known)}"))
    return problems


def _name_absent_features(spec: ModelLineSpec, file: str, context: dg.ComponentLoadContext) -> list[Problem]:
    """Names in `drift` that are no feature; of a feature set whose columns are not known the training set tells."""
    known = {name.lower() for name in spec.features or find_columns(context, spec.feature_set) or ()}
    known -= {name.lower() for name in spec.row_key}
    return [
        Problem(file, 1, key, f"{spec.name} has no feature {name!r}: {suggest(name, known)}")
        for key, name in spec.features_named_by_drift.items()
        if known and name.lower() not in known
    ]


def _name_absent_params(spec: ModelLineSpec, file: str) -> list[Problem]:
    """Parameters that a built-in estimator lacks; one of the installation's own is imported, and tells, in a fit."""
    if spec.estimator not in BUILT_IN:
        return []
    named = {"params": list(spec.params), "search.space": list(spec.search.space) if spec.search else []}
    return [
        Problem(file, 1, f"{key}.{name}", problem)
        for key, names in named.items()
        for name, problem in find_absent_params(spec.estimator, names).items()
    ]
