"""The code version of a dbt asset follows its meaning, and each column names those that it comes from."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from factory_assets.components.column_lineage import LINEAGE_KEY, prediction_lineage, training_set_lineage
from factory_assets.contracts.declarations import read_declaration
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.storage.dbt.meanings import TableMeaning, read_table_meanings
from factory_assets.storage.dbt.runs import DbtRuns

ROOT = Path(__file__).parents[2]
FEATURES = "features.feat_flight_departure"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> DbtRuns:
    """The product's own dbt project, as a copy that may be edited."""
    folder = tmp_path_factory.mktemp("meanings")
    shutil.copytree(ROOT / "dbt_project", folder / "project", ignore=shutil.ignore_patterns("target", "logs"))
    return DbtRuns(folder / "project", folder / "work", str(folder / "no_lake"))


def meanings_of(runs: DbtRuns) -> dict[str, TableMeaning]:
    return read_table_meanings(runs, runs.read_manifest())


def deps(metadata: dict[str, dg.TableColumnLineage], column: str) -> set[str]:
    return {f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in metadata[LINEAGE_KEY].deps_by_column[column]}


def test_lineage_goes_from_a_source_column_over_the_feature_to_the_score(runs: DbtRuns) -> None:
    meanings = meanings_of(runs)
    came = {(table, column): set(found) for table, m in meanings.items() for column, found in m.values_from.items()}
    assert came[FEATURES, "plane_age_years"] == {
        ("marts.dim_plane", "manufactured_year"),
        ("marts.fct_flight", "flight_date"),
    }
    assert came["marts.dim_plane", "manufactured_year"] == {("staging.stg_planes", "manufactured_year")}
    assert came["staging.stg_planes", "manufactured_year"] == {("bronze.planes", "year")}
    assert came[FEATURES, "carrier_late_share_28d"] == {("marts.fct_flight", "arrived_late")}
    assert came["marts.fct_airport_hour", "scheduled_departures"] == set()
    file = "factory_assets/defs/model_lines/arrival_delay/defs.yaml"
    spec = read_declaration((ROOT / file).read_text(encoding="utf-8"), file, 0, ModelLineSpec)
    columns = [*spec.row_key, "plane_age_years", "label", "label_known_at_utc"]
    training_set = training_set_lineage(spec, columns)
    assert deps(training_set, "plane_age_years") == {"features/feat_flight_departure.plane_age_years"}
    assert deps(training_set, "label") == {"marts/fct_flight.arrived_late"}
    score = deps(prediction_lineage(spec, ["plane_age_years", "carrier"]), "score")
    assert score == {"features/feat_flight_departure.plane_age_years", "features/feat_flight_departure.carrier"}


def test_a_code_version_follows_macros_and_not_comments_or_layout(runs: DbtRuns) -> None:
    before = {table: meaning.fingerprint for table, meaning in meanings_of(runs).items()}
    model = runs.project / "models" / "marts" / "dim_plane.sql"
    upper = model.read_text().replace("\n    ", " ").upper()
    model.write_text("-- planes\n" + upper.replace("REF('STG_PLANES')", "ref('stg_planes')"))
    macro = runs.project / "macros" / "age.sql"
    macro.write_text("{% macro age() %}{% endmacro %}")
    assert {table: meaning.fingerprint for table, meaning in meanings_of(runs).items()} == before
    model.write_text(model.read_text().replace("ENGINES", "{{ more() }}"))
    macro.write_text("{% macro more() %}engines + 1 as engines{% endmacro %}")
    after = {table: meaning.fingerprint for table, meaning in meanings_of(runs).items()}
    assert {table for table in before if before[table] != after[table]} == {"marts.dim_plane"}


def test_a_model_that_asks_the_lake_while_it_compiles_has_a_code_version_by_its_text(runs: DbtRuns) -> None:
    asking = runs.project / "models" / "marts" / "asking.sql"
    asking.write_text("{% set found = run_query('select 1 from ' ~ this) %}select 1 as one")
    first = meanings_of(runs)["marts.asking"]
    asking.write_text(asking.read_text().replace("1 as one", "2 as one"))
    assert meanings_of(runs)["marts.asking"].fingerprint != first.fingerprint
    asking.unlink()


def test_all_columns_of_a_model_are_known_unless_it_asks_a_table_for_them(runs: DbtRuns) -> None:
    texts = {
        "named": "select flight_id, arrived_late as Late from {{ ref('fct_flight') }}",
        "passed_on": "select * from {{ ref('named') }}",
        "starred": "select *, 1 as one from {{ source('bronze', 'planes') }}",
        "asking": "select 1 as one {% for c in adapter.get_columns_in_relation(ref('named')) %}, {{ c.name }}{% endfor %}",
    }
    for name, text in texts.items():
        (runs.project / "models" / "marts" / f"{name}.sql").write_text(text)
    found = {name: meanings_of(runs)[f"marts.{name}"] for name in texts}
    assert {name: meaning.is_open for name, meaning in found.items()} == {
        "named": False,
        "passed_on": False,
        "starred": True,
        "asking": True,
    }
    assert list(found["passed_on"].values_from) == ["flight_id", "late"]
    assert {name: meanings_of(runs)[f"marts.{name}"] for name in texts} == found, "kept as found"
