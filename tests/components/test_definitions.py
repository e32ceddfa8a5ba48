import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from factory_assets.components.naming import DAILY_JOB, MONITOR_JOB

ROOT = Path(__file__).parents[2]
LINE_CHECKS = {"feature_freshness", "model_age", "feature_drift", "prediction_drift"}
LABEL_CHECKS = {"label_drift", "quality", "estimated_quality", "skew"}

# Python's own hooks see every socket, file and process, also those of libraries; the dbt manifest is there already.
_LOAD_WATCHED = """
import sys
touched = []
lake = sys.argv[1]
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        touched.append((event, str(args[:2])))
    elif event == "open" and isinstance(args[0], str) and args[0].startswith(lake):
        touched.append((event, args[0]))
import factory_assets.components
sys.addaudithook(watch)
from factory_assets.definitions import defs
defs().resolve_asset_graph()
print(touched)
"""


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a parsed dbt project, and a lake and a secret that nobody is to touch."""
    from factory_assets.storage.dbt.runs import DbtRuns

    data = tmp_path_factory.mktemp("data")
    DbtRuns(ROOT / "dbt_project", data / "dbt", str(data / "lake")).read_manifest()
    for table in ("bronze/flights", "features/feat_flight_departure", "ops/model_versions", "ops/promotions"):
        log = data / "lake" / table / "_delta_log"
        log.mkdir(parents=True)
        (log / f"{0:020}.json").write_text("whoever reads this fails")
    return data


@pytest.fixture(scope="module")
def definitions(data_folder: Path) -> dg.Definitions:
    from factory_assets.definitions import build_definitions
    from factory_assets.settings import FactorySettings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTORY_DATA_DIR", str(data_folder))
        return build_definitions(ROOT / "factory_assets", FactorySettings())


def test_loading_touches_no_network_no_table_and_starts_no_process(data_folder: Path) -> None:
    environment = {**os.environ, "FACTORY_DATA_DIR": str(data_folder), "FACTORY_MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LOAD_WATCHED, str(data_folder / "lake")],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_every_dependency_is_an_asset_of_this_factory(definitions: dg.Definitions) -> None:
    """A misspelt dep passes `dg check defs` without a word, as an external asset that nobody makes."""
    graph = definitions.resolve_asset_graph()
    made = set(graph.materializable_asset_keys)
    dangling = {key.to_user_string() for key in graph.get_all_asset_keys() if key not in made}
    assert dangling == {"ops/retrain_ledger"}  # which sensors write and show


def test_lineage_runs_from_the_source_to_the_predictions(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    upstream = dg.AssetSelection.assets("arrival_delay/predictions").upstream().resolve(graph)
    names = {key.to_user_string() for key in upstream}
    chain = {
        "bronze/flights",
        "staging/stg_flights",
        "marts/fct_flight",
        "features/feat_flight_departure",
        "arrival_delay/training_set",
        "arrival_delay/models",
    }
    assert chain <= names


def test_every_asset_says_what_it_is_whose_it_is_and_how_fresh_it_should_be(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description, key
        assert node.group_name != "default", key
        assert node.kinds, key
        if key.path[-1] != "training_set":
            assert node.freshness_policy is not None, key


def test_the_daily_job_goes_from_sources_to_predictions_and_trains_nothing(definitions: dg.Definitions) -> None:
    layer = definitions.resolve_job_def(DAILY_JOB).asset_layer
    names = {key.to_user_string() for key in layer.selected_asset_keys}
    assert {"bronze/flights", "features/feat_airport_hour", "departure_volume/predictions"} <= names
    assert not {"arrival_delay/models", "arrival_delay/training_set"} & names
    checks = {key.name for key in layer.asset_graph.asset_check_keys}
    assert "unique_fct_flight_flight_id" in checks
    assert not LINE_CHECKS & checks


def test_a_retrain_ends_with_all_checks_of_its_line_and_needs_no_partition(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("arrival_delay__retrain")
    assert {key.name for key in job.asset_layer.asset_graph.asset_check_keys} == LINE_CHECKS | LABEL_CHECKS
    assert job.partitions_def is None


def test_the_monitor_job_only_judges(definitions: dg.Definitions) -> None:
    layer = definitions.resolve_job_def(MONITOR_JOB).asset_layer
    made = {key.to_user_string() for key in layer.selected_asset_keys}
    assert made == {f"{line}/paybacks" for line in ("arrival_delay", "departure_volume", "flight_delay_fleet")}
    assert len(layer.asset_graph.asset_check_keys) >= 8


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import factory_assets; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1


def test_a_dbt_asset_has_the_fingerprint_of_its_meaning_and_the_lineage_of_its_columns(definitions: dg.Definitions) -> None:
    spec = definitions.resolve_asset_graph().get(dg.AssetKey(["features", "feat_flight_departure"]))
    assert re.fullmatch("[0-9a-f]{16}", spec.code_version or "")
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column["plane_seats"]
    assert lineage == [dg.TableColumnDep(dg.AssetKey(["marts", "dim_plane"]), "seats")]
