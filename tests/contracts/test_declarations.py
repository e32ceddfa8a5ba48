from typing import Any

import pytest
import yaml

from factory_assets.contracts.declarations import DeclarationError, read_declaration
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.source import SourceSpec
from tests.declared_lines import FLIGHT_LINE


def problem_of(changes: dict[str, Any], without: str | None = None) -> str:
    attributes = {**FLIGHT_LINE, **changes}
    attributes.pop(without or "", None)
    text = "type: factory_assets.components.ModelLine\n" + yaml.safe_dump({"attributes": attributes}, sort_keys=False)
    with pytest.raises(DeclarationError) as caught:
        read_declaration(text, "defs/delay/defs.yaml", 0, ModelLineSpec)
    return str(caught.value)


def test_a_sound_line_has_a_default_for_every_absent_key() -> None:
    spec = read_declaration(yaml.safe_dump({"attributes": FLIGHT_LINE}), "defs.yaml", 0, ModelLineSpec)
    assert (spec.task, spec.metric, spec.retrain.max_attempts) == ("classification", "roc_auc", 3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"feature_sett": "x"}, ["feature_sett", "unknown key", "did you mean 'feature_set'"]),
        ({"drift": {"treshold": 0.1}}, ["drift.treshold", "did you mean 'threshold'"]),
        ({"name": "../evil"}, ["name", "is not a name", "lower-case letters"]),
        ({"name": "a'b"}, ["name", "is not a name"]),
        ({"name": "x" * 64}, ["name", "is not a name"]),
        ({"estimator": "os.system"}, ["estimator", "allow-list", "HistGradientBoostingClassifier"]),
        ({"validation": {"metric": "rmse"}}, ["rmse", "not for classification", "roc_auc"]),
        ({"validation": {"metric": "auc"}}, ["validation.metric", "'auc' is not a metric"]),
        ({"validation": {"holdout": "fortnight"}}, ["validation.holdout", "span of time", "14d"]),
        ({"retrain": {"triggers": ["feature_freshness"]}}, ["retrain.triggers", "'feature_freshness'"]),
        (
            {"retrain": {"triggers": [{"check": "quality"}]}},
            ["triggers.0.check", "'quality' is a trigger", "without `check:`"],
        ),
        ({"retrain": {"triggers": [{"action": "alert_only"}]}}, ["triggers.0", "needs `when` or `check`"]),
        ({"retrain": {"triggers": ["no_gate_is_empty"]}}, ["is not a trigger", "a rule with the key `check`"]),
        ({"freshness": {"predictions_by": "6 am"}}, ["freshness.predictions_by", "not a time of day", "06:00"]),
        ({"promote_when": {"at_most": 0.1}}, ["at_most", "use at_least"]),
        ({"drift": {"threshold": "high"}}, ["drift.threshold", "'high'"]),
        ({"entity": []}, ["entity"]),
        ({"entity": "flight_id"}, ["entity: expected a list, but the file says 'flight_id': write [flight_id]"]),
        ({"features": ["flight_id"]}, ["flight_id", "cannot be a feature"]),
        ({"segment_by": ["a"], "parents": [["b"]]}, ["parents: ['b'] must be some, not all, of ['a']"]),
        ({"segment_by": ["a", "b"], "parents": [["a", "b"]]}, ["parents: ['a', 'b'] must be some, not all"]),
        ({"segment_by": ["a", "b"], "parents": [[]]}, ["parents: []", "the model of all rows comes last by itself"]),
        ({"segment_by": ["a", "b", "c"], "parents": [["a", "b"], ["c"]]}, ["parents: ['c'] must be some"]),
        ({"segment_by": ["a", "a"]}, ["segment_by: a column stands twice"]),
        ({"segment_by": ["departs_at"]}, ["segment_by: 'departs_at' is the as-of time"]),
        ({"parents": [["a"]]}, ["parents is for a line with segment_by"]),
        ({"executor": "ray"}, ["executor is for a line with segment_by"]),
        ({"segment_by": ["a"], "executor": "threads"}, ["executor", "'threads'"]),
        ({"segment_by": ["a"], "segments": {"confidence": 1.0}}, ["segments.confidence"]),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(changes: dict[str, Any], expected: list[str]) -> None:
    said = problem_of(changes)
    assert said.startswith("defs/delay/defs.yaml:")
    for part in expected:
        assert part in said


def test_the_levels_of_a_fleet_end_with_the_model_of_all_rows() -> None:
    assert ModelLineSpec.model_validate(FLIGHT_LINE).levels == ((),)
    keys = {"segment_by": ["carrier", "flight"], "parents": [["carrier"]]}
    assert ModelLineSpec.model_validate({**FLIGHT_LINE, **keys}).levels == (("carrier", "flight"), ("carrier",), ())


def test_a_missing_key_is_named() -> None:
    assert "the key 'as_of' is missing" in problem_of({}, without="as_of")


def test_the_line_number_is_that_of_the_key() -> None:
    text = "type: x\nattributes:\n  name: delay\n  fature_set: y\n"
    with pytest.raises(DeclarationError) as caught:
        read_declaration(text, "defs.yaml", 0, ModelLineSpec)
    assert any(str(problem).startswith("defs.yaml:4: fature_set:") for problem in caught.value.problems)


SOURCE: dict[str, Any] = {
    "name": "flights",
    "landing": "flights/*.csv",
    "keys": ["id"],
    "columns": {"id": {"type": "bigint", "required": True}},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"landing": "../secrets/*.csv"}, "leaves the landing folder"),
        ({"landing": "/etc/passwd"}, "leaves the landing folder"),
        ({"landing": "flights/{partition}.csv"}, "partitions: daily"),
        ({"partitions": "daily"}, "needs {partition}"),
        ({"keys": ["nope"]}, "not among the declared columns"),
        ({"columns": {"id": {"type": "uuid"}}}, "columns.id.type"),
        ({"columns": {"id": {"type": "string", "minimum": 1}}}, "minimum and maximum need type bigint or double"),
        ({"columns": {"i d": {"type": "string"}}}, "is not a column name"),
        ({"max_quarantined_share": 2}, "max_quarantined_share"),
    ],
)
def test_a_wrong_source_is_named_with_its_remedy(changes: dict[str, Any], expected: str) -> None:
    text = yaml.safe_dump({"attributes": {**SOURCE, **changes}})
    with pytest.raises(DeclarationError) as caught:
        read_declaration(text, "defs.yaml", 0, SourceSpec)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"drift": {"threshold": "20%"}}, "drift.threshold: expected a number, but the file says '20%'"),
        ({"validation": {"min_rows": "many"}}, "validation.min_rows: expected a whole number, but the file says 'many'"),
        ({"label": "arrived_late"}, "label: expected keys of model, column, known_at, but the file says 'arrived_late'"),
        ({"estimator": "sklearn.linear_model.LogisticRegresion"}, "did you mean 'sklearn.linear_model.LogisticRegression'?"),
        ({"estimator": "Ridge"}, "did you mean 'sklearn.linear_model.Ridge'?"),
    ],
)
def test_what_is_expected_is_said_in_words_of_the_file(changes: dict[str, Any], said: str) -> None:
    assert said in problem_of(changes)


def test_a_sentence_on_several_keys_has_the_line_of_the_one_it_begins_with() -> None:
    line = {**FLIGHT_LINE, "validation": {"window": "90d", "metric": "rmse"}}
    text = yaml.safe_dump({"attributes": line}, sort_keys=False)
    with pytest.raises(DeclarationError) as caught:
        read_declaration(text, "defs.yaml", 0, ModelLineSpec)
    number = text.splitlines().index("    metric: rmse") + 1
    assert f"defs.yaml:{number}: validation.metric 'rmse' is not for classification" in str(caught.value)


def test_an_unknown_key_of_a_column_is_told_with_those_that_are_known() -> None:
    columns = {"id": {"type": "str"}, "n": {"type": "bigint", "min": 0}, "gate": "string"}
    text = yaml.safe_dump({"attributes": {"name": "s", "landing": "s/*.csv", "keys": ["id"], "columns": columns}})
    with pytest.raises(DeclarationError) as caught:
        read_declaration(text, "defs.yaml", 0, SourceSpec)
    said = str(caught.value)
    assert "columns.n.min: unknown key 'min': did you mean 'minimum'?" in said
    assert "columns.gate: expected keys of type, " in said
    assert "columns.id.type: expected 'string', 'bigint', " in said
