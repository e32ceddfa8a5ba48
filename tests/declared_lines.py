"""The declarations of small lines that tests of every layer share: one on flights, one on things."""

from typing import Any

from factory_assets.contracts.model_line import ModelLineSpec

FLIGHT_LINE: dict[str, Any] = {
    "name": "delay",
    "feature_set": "feat_flight",
    "entity": ["flight_id"],
    "as_of": "departs_at",
    "label": {"model": "fct_flight", "column": "late", "known_at": "known_at"},
    "estimator": "sklearn.linear_model.LogisticRegression",
}
# Its tables are those of `tests.lines.conftest.write_things`.
THING_LINE: dict[str, Any] = {
    "name": "delay",
    "feature_set": "feat_thing",
    "entity": ["id"],
    "as_of": "at",
    "label": {"model": "fct_thing", "column": "late", "known_at": "known_at"},
    "estimator": "sklearn.linear_model.LogisticRegression",
    "validation": {"holdout": "7d", "min_rows": 50},
    "drift": {"window": "14d"},
}


def flight_line(**changes: Any) -> ModelLineSpec:
    """The line on flights, with some keys declared otherwise."""
    return ModelLineSpec.model_validate({**FLIGHT_LINE, **changes})


def thing_line(**changes: Any) -> ModelLineSpec:
    """The line on things, with some keys declared otherwise."""
    return ModelLineSpec.model_validate({**THING_LINE, **changes})
