from typing import Any

import dagster as dg
import pytest

from factory_assets.installation import find_declaration_problems

DELAY: dict[str, Any] = {
    "name": "delay",
    "feature_set": "feat_flight_departure",
    "entity": ["flight_id"],
    "as_of": "scheduled_departure_utc",
    "label": {"model": "fct_flight", "column": "arrived_late", "known_at": "arrival_known_at_utc"},
    "estimator": "sklearn.linear_model.LogisticRegression",
}
VOLUME: dict[str, Any] = {
    "name": "volume",
    "feature_set": "feat_airport_hour",
    "entity": ["origin", "hour_start_utc"],
    "as_of": "hour_start_utc",
    "label": {"model": "fct_airport_hour", "column": "actual_departures", "known_at": "hour_end_utc"},
    "estimator": "sklearn.linear_model.Ridge",
}
LINE_ASSETS = ("training_set", "models", "predictions")
LINE_CHECKS = {
    *("feature_freshness", "model_age", "skew", "feature_drift", "prediction_drift"),
    *("label_drift", "quality", "estimated_quality"),
}


def declare_lines(sandbox: Any, *lines: dict[str, Any]) -> None:
    sandbox.declare("dbt", "DbtProject", {"path": "dbt_project"})
    for line in lines:
        sandbox.declare(f"lines/{line['name']}", "ModelLine", line)


def problems_of(definitions: dg.Definitions, place: str) -> str:
    """What the broken asset's check says when it is run."""
    key = dg.AssetCheckKey(dg.AssetKey(["broken", place]), "declaration_is_sound")
    job = dg.define_asset_job("see_what_is_broken", selection=dg.AssetSelection.checks(key))
    result = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def(job.name).execute_in_process()
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    return str(evaluation.description)


def test_two_lines_of_different_task_and_entity_stand_side_by_side(sandbox, keys_of) -> None:
    declare_lines(sandbox, DELAY, VOLUME)
    definitions = sandbox.build()
    for line in ("delay", "volume"):
        assert {f"{line}/{asset}" for asset in LINE_ASSETS} <= keys_of(definitions)
        checks = {key.name for key in definitions.resolve_asset_graph().asset_check_keys if key.asset_key.path[0] == line}
        assert checks == LINE_CHECKS
        assert definitions.resolve_job_def(f"{line}__retrain")
        assert definitions.resolve_sensor_def(f"{line}__retraining_sensor")
    assert "broken" not in {key.split("/")[0] for key in keys_of(definitions)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feature_set": "feat_nothing"}, "'feat_nothing' is no dbt model in models/features: there are feat_airport_hour"),
        ({"label": {**DELAY["label"], "model": "fct_nothing"}}, "label.model: 'fct_nothing' is no dbt model"),
        ({"estimator": "subprocess.Popen"}, "not on the allow-list"),
        ({"name": "../evil"}, "is not a name"),
        ({"threshhold": 1}, "unknown key 'threshhold'"),
        ({"validation": {"min_rows": "many"}}, "validation.min_rows"),
        ({"segment_by": ["carier"]}, "segment_by.0: feat_flight_departure has no column 'carier': did you mean 'carrier'?"),
        ({"entity": ["flight"]}, "entity.0: feat_flight_departure has no column 'flight'"),
        (
            {"label": {**DELAY["label"], "column": "arrived_lat"}},
            "label.column: fct_flight has no column 'arrived_lat': did you mean 'arrived_late'?",
        ),
        ({"as_of": "departs"}, "as_of: feat_flight_departure has no column 'departs'"),
        (
            {"params": {"max_itr": 5}},
            "params.max_itr: LogisticRegression has no parameter 'max_itr' to set here: did you mean",
        ),
        (
            {"search": {"space": {"c": [1, 2]}}},
            "search.space.c: LogisticRegression has no parameter 'c' to set here: there are C",
        ),
        ({"drift": {"ignore": ["carier"]}}, "drift.ignore.0: delay has no feature 'carier': did you mean 'carrier'?"),
        (
            {"blocked_by": ["zzz"]},
            "blocked_by.0: 'zzz' is no check of your own: the UI lists them on the tab Checks of each",
        ),
        ({"features": ["plane_seats", "zzz"]}, "features.1: feat_flight_departure has no column 'zzz': there are "),
    ],
)
def test_a_wrong_line_is_shown_as_broken_and_harms_no_other(sandbox, keys_of, changes: dict[str, Any], said: str) -> None:
    declare_lines(sandbox, VOLUME)
    sandbox.declare("lines/delay", "ModelLine", {**DELAY, **changes})
    definitions = sandbox.build()
    keys = keys_of(definitions)
    assert "broken/delay" in keys
    assert {f"volume/{asset}" for asset in LINE_ASSETS} <= keys
    assert not any(key.startswith("delay/") for key in keys)
    message = problems_of(definitions, "delay")
    assert said in message
    assert "/defs/lines/delay/defs.yaml:" in message


def test_a_duplicate_key_is_shown_with_its_line(sandbox, keys_of) -> None:
    declare_lines(sandbox, VOLUME)
    sandbox.declare("lines/delay", "ModelLine", "name: delay\nfeature_set: feat_flight_departure\nname: other\n")
    message = problems_of(sandbox.build(), "delay")
    assert "defs.yaml:5: name: the key 'name' is given twice (first on line 3)" in message


def test_what_only_the_project_can_know_is_told_with_the_line_of_its_key(sandbox) -> None:
    declare_lines(sandbox, VOLUME)
    policy = {"triggers": ["schedule"], "schedule": "daily"}
    file = sandbox.declare("lines/delay", "ModelLine", {**DELAY, "retrain": policy, "segment_by": ["carier"]})
    lines = file.read_text(encoding="utf-8").splitlines()
    said = problems_of(sandbox.build(), "delay")
    for key, text in (("segment_by.0", "- carier"), ("retrain.schedule", "schedule: daily")):
        number = next(place for place, line in enumerate(lines, 1) if line.strip() == text)
        assert f"defs.yaml:{number}: {key}: " in said


def test_a_copied_declaration_is_broken_until_it_has_a_name_of_its_own_and_what_it_was_copied_from_stands(
    sandbox, keys_of
) -> None:
    declare_lines(sandbox, DELAY, VOLUME)
    sandbox.declare("lines/a_copy", "ModelLine", DELAY)
    gates = {"name": "gates", "landing": "gates/*.csv", "keys": ["gate"], "columns": {"gate": {"type": "string"}}}
    sandbox.declare("sources/gates", "DeltaSource", gates)
    sandbox.declare("sources/gates_too", "DeltaSource", gates)
    sandbox.declare("more/days", "Calendar", {"start": "2013-01-01", "timezone": "UTC"})
    definitions = sandbox.build()
    dg.Definitions.validate_loadable(definitions)
    assert {"delay/models", "volume/models", "bronze/gates"} <= keys_of(definitions)
    assert {key for key in keys_of(definitions) if key.startswith("broken/")} == {
        "broken/a_copy",
        "broken/gates_too",
        "broken/days",
    }
    said = problems_of(definitions, "a_copy")
    assert "/defs/lines/a_copy/defs.yaml:3: name: 'delay' is declared in " in said
    assert said.endswith("/defs/lines/delay/defs.yaml: give it another name")
    assert "the one Calendar is declared in " in problems_of(definitions, "days")


def test_two_broken_declarations_in_folders_of_one_name_are_both_told(sandbox) -> None:
    declare_lines(sandbox, VOLUME)
    sandbox.declare("lines/delay", "ModelLine", {**DELAY, "threshhold": 1})
    sandbox.declare("sources/delay", "DeltaSource", {"name": "delay", "format": "xls"})
    definitions = sandbox.build()
    dg.Definitions.validate_loadable(definitions)
    said = problems_of(definitions, "delay")
    assert "lines/delay/defs.yaml" in said
    assert "sources/delay/defs.yaml" in said


def test_a_line_without_a_calendar_is_broken_by_itself(sandbox, keys_of) -> None:
    (sandbox.package / "defs" / "calendar" / "defs.yaml").unlink()
    declare_lines(sandbox, DELAY)
    definitions = sandbox.build()
    assert "marts/fct_flight" in keys_of(definitions)
    assert "there is no calendar" in problems_of(definitions, "delay")


def test_a_file_that_is_no_yaml_leaves_the_other_lines_standing(sandbox, keys_of) -> None:
    declare_lines(sandbox, VOLUME)
    file = sandbox.declare("lines/delay", "ModelLine", DELAY)
    file.write_text("type: factory_assets.components.ModelLine\nattributes: [unclosed\n")
    definitions = sandbox.build()
    assert {f"volume/{asset}" for asset in LINE_ASSETS} <= keys_of(definitions)
    assert "not valid YAML" in problems_of(definitions, "delay")


def test_a_component_that_does_not_exist_leaves_the_other_lines_standing(sandbox, keys_of) -> None:
    declare_lines(sandbox, VOLUME)
    sandbox.declare("lines/delay", "ModelLin", DELAY)
    definitions = sandbox.build()
    assert {f"volume/{asset}" for asset in LINE_ASSETS} <= keys_of(definitions)
    assert "`ModelLin`: write one of Alerts, Calendar, " in problems_of(definitions, "delay")


def test_a_users_own_assets_in_python_load_beside_the_declared_ones(sandbox, keys_of) -> None:
    declare_lines(sandbox, VOLUME)
    (sandbox.package / "defs" / "own.py").write_text("import dagster as dg\n\n@dg.asset\ndef own_report() -> None: ...\n")
    assert "own_report" in keys_of(sandbox.build())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import dagster as dg\ndef (", "own.py:2: cannot be loaded: SyntaxError: invalid syntax"),
        ("import dagster as dg\n\nraise KeyError('oops')", "own.py:3: cannot be loaded: KeyError: 'oops'"),
        ("import dagsterr", "own.py:1: cannot be loaded: ModuleNotFoundError: No module named 'dagsterr'"),
    ],
)
def test_own_python_that_fails_is_told_with_its_line_and_kind(sandbox, code: str, said: str) -> None:
    (sandbox.package / "defs" / "own.py").write_text(code)
    (problem,) = find_declaration_problems(sandbox.settings)
    assert said in str(problem)


@pytest.mark.parametrize(
    "text", ["", "type: factory_assets.component.ModelLine\n", "type: factory_assets.components.Line\n"]
)
def test_what_may_stand_as_a_type_is_told_where_none_can_be_found(sandbox, text: str) -> None:
    sandbox.declare("lines/delay", "ModelLine", {}).write_text(text)
    (problem,) = find_declaration_problems(sandbox.settings)
    assert "write one of Alerts, Calendar, DbtProject, " in str(problem)


def test_own_python_that_defines_what_there_is_already_is_left_out_and_told(sandbox, keys_of) -> None:
    columns = {"gate": {"type": "string"}}
    sandbox.declare("gates", "DeltaSource", {"name": "gates", "landing": "g/*.csv", "keys": ["gate"], "columns": columns})
    assert find_declaration_problems(sandbox.settings) == []
    a_job = "import dagster as dg\n\nnightly = dg.define_asset_job('nightly')\n"
    files = {
        "jobs": a_job,
        "own": f"{a_job}\n@dg.asset(key=['bronze', 'gates'])\ndef own() -> None: ...\n",
        "refers": "import dagster as dg\n\ngates = dg.SourceAsset(['bronze', 'gates'])\n",
        "shared": "import dagster as dg\n\n@dg.asset\ndef shared() -> None: ...\n",
        "using": f"from {sandbox.package.name}.defs.shared import shared\n",
    }
    for name, text in files.items():
        (sandbox.package / "defs" / f"{name}.py").write_text(text)
    problems = [str(problem) for problem in find_declaration_problems(sandbox.settings)]
    defs = f"{sandbox.package.name}/defs"
    assert problems == [
        f"{defs}/own.py:1: asset bronze/gates is defined in {defs}/gates already: give it another name",
        f"{defs}/own.py:1: job nightly is defined in {defs}/jobs.py already: give it another name",
    ]
    definitions = sandbox.build()
    dg.Definitions.validate_loadable(definitions)
    assert {"bronze/gates", "shared", "broken/own"} <= keys_of(definitions)
    assert problems_of(definitions, "own") == "\n".join(problems)


def test_own_python_beside_which_nothing_loads_is_left_out_and_told(sandbox, keys_of) -> None:
    a_job = "{0} = dg.define_asset_job('{0}', selection=['{1}'])\n"
    of_a_job = "tick = dg.ScheduleDefinition(name='tick', job_name='{0}', cron_schedule='@daily')\n"
    files = {
        "a_job_of_later": a_job.format("nightly", "later"),
        "impossible": a_job.format("weekly", "nothing"),
        "later": "@dg.asset\ndef later() -> None: ...\n",
        "of_impossible": of_a_job.format("weekly"),
        "same": "@dg.asset(name='twice')\ndef one() -> None: ...\n\n@dg.asset(name='twice')\ndef two() -> None: ...\n",
    }
    (sandbox.package / "defs" / "own").mkdir()
    for name, text in files.items():
        (sandbox.package / "defs" / "own" / f"{name}.py").write_text(f"import dagster as dg\n\n{text}")
    same, impossible, of_impossible = (str(problem) for problem in find_declaration_problems(sandbox.settings))
    defs, beside = f"{sandbox.package.name}/defs/own", "nothing can be loaded beside it"
    assert same.startswith(f"{defs}/same.py:1: cannot be loaded: Asset key twice is defined multiple times")
    assert impossible.startswith(f"{defs}/impossible.py:1: {beside}: Failed to resolve asset job weekly: ")
    assert "['nothing']" in impossible
    assert of_impossible.startswith(f'{defs}/of_impossible.py:1: {beside}: ScheduleDefinition "tick" targets job "weekly"')
    definitions = sandbox.build()
    dg.Definitions.validate_loadable(definitions)
    assert "later" in keys_of(definitions)
    assert definitions.resolve_job_def("nightly")
    assert {key for key in keys_of(definitions) if key.startswith("broken/")} == {
        "broken/impossible",
        "broken/of_impossible",
        "broken/same",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "type: factory_assets.components.ModelLine\natributes: {name: delay}\n",
            "defs.yaml:2: atributes: unknown key 'atributes': did you mean 'attributes'?",
        ),
        (
            "type: factory_assets.components.ModelLine\n1: {name: delay}\n",
            "defs.yaml:2: 1: unknown key '1': there are attributes, post_processing, ",
        ),
    ],
)
def test_a_misspelt_key_above_the_attributes_is_told_with_its_line(sandbox, text: str, said: str) -> None:
    sandbox.declare("lines/delay", "ModelLine", DELAY).write_text(text)
    assert said in problems_of(sandbox.build(), "delay")
