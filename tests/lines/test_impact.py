"""An edit of a dbt project over a small lake: which models, columns, lines and rows are another, and nothing else."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from factory_assets.contracts.impact import ImpactReport
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.transformations.impact_text import render_markdown
from factory_assets.lines.impact import Before, as_before, assess_impact, estimate_from_ledger, read_published_state
from factory_assets.storage.dbt.definitions import DbtModel, list_models
from factory_assets.storage.dbt.runs import DbtParseError, DbtRuns
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.git import GitRefError, export_folder
from factory_assets.storage.tables.retrain_ledger import RETRAIN_LEDGER
from tests.dbt.conftest import Sandbox, make_sandbox

FLIGHTS = """select id, carrier, seconds / 60 as minutes, seats from {{ source('bronze', 'events') }}
{% if is_incremental() %} where id not in (select id from {{ this }}){% endif %}"""
CARRIERS = "select carrier, avg(minutes) as mean_minutes, count(*) as flights from {{ ref('flights') }} group by carrier"
FEATURES = """with carriers as (select * from {{ ref('carriers') }})
select f.id, cast('2024-01-01' as timestamptz) as at, f.seats, c.mean_minutes, c.flights as carrier_flights
from {{ ref('flights') }} as f left join carriers as c on f.carrier = c.carrier"""
UNIQUE = {"columns": [{"name": "id", "data_tests": ["unique"]}]}
NOBODY = pa.table({"k": [1]})


def line(name: str, *features: str) -> ModelLineSpec:
    return ModelLineSpec.model_validate(
        {
            "name": name,
            "feature_set": "features",
            "entity": ["id"],
            "as_of": "at",
            "features": features,
            "label": {"model": "labels", "column": "late", "known_at": "known_at"},
            "estimator": "sklearn.linear_model.Ridge",
        }
    )


LINES = [line("all_features"), line("by_minutes", "mean_minutes"), line("by_seats", "seats")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was built once; tests work on copies."""
    folder = tmp_path_factory.mktemp("built")
    sandbox = make_sandbox(folder)
    events = {"id": [1, 2, 3, 4], "carrier": ["A", "A", "B", "B"], "seconds": [60, 120, 600, 1200], "seats": [1, 2, 3, 4]}
    sandbox.write_source("events", pa.table(events))
    sandbox.write_source("other", NOBODY)
    sandbox.model("flights", FLIGHTS, UNIQUE, incremental_strategy="merge", unique_key="id")
    sandbox.model("carriers", CARRIERS, {"columns": [{"name": "carrier", "data_tests": ["unique"]}]})
    sandbox.model("features", FEATURES, UNIQUE, schema="features")
    sandbox.model("labels", "select id, seats > 2 as late, current_date as known_at from {{ ref('flights') }}", UNIQUE)
    sandbox.model("apart", "select k from {{ source('bronze', 'other') }}")
    sandbox.run_well("build")
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Sandbox:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return Sandbox(tmp_path / "project", tmp_path / "lake", tmp_path / "work")


def models_of(sandbox: Sandbox, project: Path | None = None) -> list[DbtModel]:
    runs = DbtRuns(project or sandbox.project, sandbox.work / "impact", str(sandbox.lake))
    return list_models(runs.compile(full_refresh=True), runs.compile(full_refresh=False))


def impact_of(sandbox: Sandbox, before: Before | None = None) -> ImpactReport:
    lake, models = Lake(str(sandbox.lake)), models_of(sandbox)
    before = before or read_published_state(lake, models)
    return assess_impact(lake, models, before, LINES, estimate_from_ledger(lake))


def test_nothing_changes_without_an_edit_nor_by_layout_and_comments(project: Sandbox) -> None:
    assert impact_of(project) == ImpactReport("the published state", (), ())
    relaid = CARRIERS.replace(" from ", "\nFROM -- all of them\n").replace("avg(minutes)", "AVG( (minutes) )")
    project.model("carriers", relaid, {"description": "more words", "columns": [{"name": "carrier"}]})
    project.model("flights", FLIGHTS, UNIQUE, incremental_strategy="merge", unique_key="id", partition_by="carrier")
    assert impact_of(project).is_empty


def test_one_expression_changes_its_column_and_what_reads_it_and_those_rows(project: Sandbox) -> None:
    project.model("carriers", CARRIERS.replace("avg(minutes)", "case when carrier = 'B' then 0 else avg(minutes) end"))
    report = impact_of(project)
    assert [(m.table, m.kind, m.rows, dict(m.columns)) for m in report.models] == [
        ("marts.carriers", "changed", False, {"mean_minutes": "expression"}),
        ("features.features", "affected", False, {"mean_minutes": "reads marts.carriers.mean_minutes"}),
    ]
    assert [(found.line, found.features, found.label, found.rows) for found in report.lines] == [
        ("all_features", ("mean_minutes",), (), False),
        ("by_minutes", ("mean_minutes",), (), False),
    ]
    carriers, features = report.diffs
    # Its own test of uniqueness went with the edit.
    assert (carriers.key, carriers.added, carriers.removed, carriers.changed) == ((), 1, 1, 0)
    assert "unique" in carriers.note
    assert (features.key, features.added, features.removed, features.changed) == (("id",), 0, 0, 2)
    assert features.changed_columns == {"mean_minutes": 2}
    assert features.samples == {"changed": ("3", "4")}


def test_a_filter_changes_rows_and_every_column_down_to_all_lines(project: Sandbox) -> None:
    project.model("flights", FLIGHTS.replace("}}\n", "}} where seats > 1\n", 1).replace("%} where", "%} and"), UNIQUE,
                  incremental_strategy="merge", unique_key="id")  # fmt: skip
    report = impact_of(project)
    assert [(m.table, m.kind, m.rows) for m in report.models] == [
        ("marts.flights", "changed", True),
        ("marts.carriers", "affected", True),
        ("features.features", "affected", True),
        ("marts.labels", "affected", True),
    ]
    assert [found.line for found in report.lines if found.rows] == ["all_features", "by_minutes", "by_seats"]
    flights = report.diffs[0]
    assert (flights.removed, flights.added, flights.changed, flights.samples) == (1, 0, 0, {"removed": ("1",)})


def test_a_line_that_reads_no_affected_column_is_not_listed(project: Sandbox) -> None:
    project.model("flights", FLIGHTS.replace("seats from", "seats + 1 as seats from"), UNIQUE,
                  incremental_strategy="merge", unique_key="id")  # fmt: skip
    report = impact_of(project)
    hit = {found.line: (found.features, found.label) for found in report.lines}
    assert hit == {
        "all_features": (("seats",), ("late",)),
        "by_minutes": ((), ("late",)),
        "by_seats": (("seats",), ("late",)),
    }
    assert "marts.carriers" not in {model.table for model in report.models}


def test_edits_beside_the_query_are_seen(project: Sandbox) -> None:
    macro, settings = project.project / "macros" / "minutes.sql", project.project / "dbt_project.yml"
    macro.write_text("{% macro minutes() %}avg(minutes) * {{ var('factor', 1) }}{% endmacro %}")
    types = {"carrier": "varchar", "mean_minutes": "double", "flights": "bigint"}
    columns: list[dict[str, Any]] = [{"name": name, "data_type": kind} for name, kind in types.items()]

    def write_models(flights: str = FLIGHTS, **config: str) -> None:
        config = config or {"incremental_strategy": "merge", "unique_key": "id"}
        project.model("flights", flights, UNIQUE, **config)
        properties = {"config": {"contract": {"enforced": True}}, "columns": columns}
        project.model("carriers", CARRIERS.replace("avg(minutes)", "{{ minutes() }}"), properties)

    def first_change() -> tuple[str, str | None]:
        found = impact_of(project).models[0]
        return found.table, (found.reasons or (found.columns.get("mean_minutes"),))[0]

    write_models()
    # Only the second run is incremental, and keeps the query of one.
    project.write_source("events", pa.table({"id": [9], "carrier": ["A"], "seconds": [60], "seats": [1]}))
    project.run_well("build")
    assert impact_of(project).is_empty

    text = macro.read_text()
    macro.write_text(text.replace("avg", "max"))
    assert first_change() == ("marts.carriers", "expression")
    macro.write_text(text)

    text = settings.read_text()
    settings.write_text(text + "\nvars: {factor: 2}\n")
    assert first_change() == ("marts.carriers", "expression")
    settings.write_text(text)

    columns[1]["constraints"] = [{"type": "not_null"}]
    write_models()
    assert first_change() == ("marts.carriers", "contract: double -> double, not_null")
    del columns[1]["constraints"]

    write_models(incremental_strategy="replace_partitions", partition_by="carrier")
    assert first_change() == ("marts.flights", "incremental_strategy: merge -> replace_partitions")

    write_models(FLIGHTS.replace("not in", "in"))
    assert first_change() == ("marts.flights", "the rows that an incremental run reads")


def test_a_new_model_and_a_table_without_a_record_are_told_apart(project: Sandbox) -> None:
    project.model("fresh", "select k from {{ ref('apart') }}")
    project.write_source("../marts/older", NOBODY)
    project.model("older", "select k from {{ ref('apart') }}")
    report = impact_of(project)
    assert {model.table: model.kind for model in report.models} == {"marts.fresh": "new", "marts.older": "unrecorded"}
    assert [diff.added for diff in report.diffs] == [1]
    assert "marts.older: published without a record" in report.notes[0]


def test_a_model_that_cannot_be_computed_is_noted_with_what_reads_it(project: Sandbox) -> None:
    project.model("carriers", CARRIERS.replace("avg(minutes)", "avg(nothing)"))
    report = impact_of(project)
    assert 'marts.carriers: Binder Error: Referenced column "nothing" not found' in report.notes[0]
    assert report.notes[1] == "features.features: not computed, since it reads marts.carriers"
    assert report.diffs == ()


def test_tables_that_have_not_landed_are_named_once_with_what_to_do(project: Sandbox) -> None:
    shutil.rmtree(project.lake)
    report = impact_of(project)
    assert {model.kind for model in report.models} == {"new"}
    assert report.diffs == ()
    (note,) = report.notes
    assert note.startswith(
        "rows were not compared of what reads bronze.events, bronze.other: the lake has no such table yet."
    )
    assert "the daily job or `factory demo`" in note


def test_a_git_ref_is_another_state_to_compare_with(project: Sandbox) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=analyst", "-c", "user.email=analyst@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=project.project, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "models")
    project.model("carriers", CARRIERS.replace("avg(minutes)", "max(minutes)"))
    (project.project / "models" / "apart.sql").unlink()
    (project.project / "models" / "apart.yml").unlink()
    tree = export_folder(project.project, "main", project.work)
    report = impact_of(project, as_before("main", models_of(project, tree), models_of(project)))
    assert report.compared_with == "main"
    assert {model.table: model.kind for model in report.models} == {
        "marts.apart": "removed",
        "marts.carriers": "changed",
        "features.features": "affected",
    }
    with pytest.raises(GitRefError, match="cannot be read at 'nowhere'"):
        export_folder(project.project, "nowhere", project.work)


def test_a_project_that_does_not_compile_says_where(project: Sandbox) -> None:
    project.model("carriers", "select * from {{ ref('nobody') }}")
    with pytest.raises(DbtParseError, match="nobody"):
        models_of(project)


def test_a_retrain_is_priced_by_what_the_ledger_saw(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        {"sequence": attempt, "step": step, "line": "by_seats", "run_key": f"run {attempt}", "state": state,
         "recorded_at_utc": start + timedelta(days=attempt, seconds=after)}
        for attempt, seconds in enumerate((10, 30, 50))
        for step, (state, after) in enumerate((("requested", 0), ("promoted", seconds)))
    ]  # fmt: skip
    lake.upsert(RETRAIN_LEDGER, pa.Table.from_pylist(rows, schema=RETRAIN_LEDGER.schema))
    estimate = estimate_from_ledger(lake)
    cost = estimate("by_seats")
    assert cost is not None
    assert (cost.seconds, cost.runs) == (30, 3)
    assert estimate("by_minutes") is None


def test_the_report_in_words_names_tables_columns_lines_and_rows(project: Sandbox) -> None:
    project.model("carriers", CARRIERS.replace("avg(minutes)", "max(minutes)"))
    text = render_markdown(impact_of(project))
    for part in ("| `marts.carriers` | changed | `mean_minutes` | expression |", "| `by_minutes` | `features` |",
                 "| `features.features` | id | 4 | 4 | 0 | 0 | 4 |", "never trained"):  # fmt: skip
        assert part in text
    assert "by_seats" not in text
    assert "No model changes its meaning." in render_markdown(ImpactReport("main", (), ()))
