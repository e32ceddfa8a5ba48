import socket
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from factory_assets.cli import app
from factory_assets.environment import find_doubts
from factory_assets.settings import FactorySettings


def test_everything_lies_below_one_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path))
    settings = FactorySettings()
    places = [settings.landing, Path(settings.lake), settings.models, settings.clock, settings.dagster_home]
    assert {place.parent for place in places} == {tmp_path}
    assert settings.mlflow_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_one_setting_moves_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_LAKE_URI", str(tmp_path / "lake"))
    assert FactorySettings().lake == str(tmp_path / "lake")


@pytest.mark.parametrize("name", ["FACTORY_DATA_DIR", "FACTORY_LAKE_URI"])
@pytest.mark.parametrize("value", ["data", "../lake"])
def test_a_place_that_depends_on_where_one_stands_is_refused(name: str, value: str, monkeypatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match="is not an absolute path of a local folder"):
        FactorySettings()


@pytest.mark.parametrize(
    "value", ["s3://bucket/lake", "az://container/lake", "abfss://c@account.dfs.core.windows.net/l", "gs://b/l"]
)
def test_the_lake_alone_may_lie_in_an_object_store(value: str, monkeypatch) -> None:
    monkeypatch.setenv("FACTORY_LAKE_URI", value + "/")
    assert FactorySettings().lake == value
    monkeypatch.setenv("FACTORY_DATA_DIR", value)
    with pytest.raises(ValidationError, match="is not an absolute path of a local folder"):
        FactorySettings()


@pytest.mark.parametrize("value", ["ftp://host/lake", "s3:///lake", "https://host/lake"])
def test_an_address_of_no_known_store_is_refused_with_those_that_are(value: str, monkeypatch) -> None:
    monkeypatch.setenv("FACTORY_LAKE_URI", value)
    with pytest.raises(ValidationError, match="is no place for a lake: give a folder, or one of s3://"):
        FactorySettings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FACTORY_WORKERS", "zwei", "valid integer"),
        ("FACTORY_WORKERS", "0", "0 workers cannot work"),
        ("FACTORY_PRICE_PER_CPU_HOUR", "-1", "greater than or equal to 0, and it is '-1'"),
        ("FACTORY_SENSOR_INTERVAL_SECONDS", "0", "greater than or equal to 1"),
        ("FACTORY_REPORTS_URL", "localhost:3001", "start it with http:// or https://"),
        ("FACTORY_UI_URL", "localhost:3000", "start it with http:// or https://"),
        ("FACTORY_EXTRA_ESTIMATORS", "nothing", "'nothing' is not an estimator: write"),
        ("FACTORY_DATA_DIR", "data", "is not an absolute path"),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence_that_names_it(name: str, value: str, said: str, monkeypatch) -> None:
    monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {name}: ")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "FACTORY_MLFLOW_TRACKING_URI",
            "notauri://ada:secret@host",
            "is no address of an MLflow store: begin it with",
        ),
        ("FACTORY_MLFLOW_TRACKING_URI", "sqlite:///secret.db", "give its absolute path, as sqlite:////data/mlflow.db"),
        ("FACTORY_MLFLOW_TRACKING_URI", "mysql+none://ada:secret@host/db", "no driver for mysql+none:// is installed"),
        ("FACTORY_PROJECT_DIR", "/nowhere", "'/nowhere' has no pyproject.toml: give the folder in which dbt_project"),
        ("FACTORY_PROJECT_DIR", "here", "is not an absolute path"),
        (
            "FACTORY_DUCKDB_MEMORY",
            "lots",
            "'lots' is no amount of memory: ",
        ),
        ("FACTORY_ALERT_TARGETS", "json://127.0.0.1/a secret://token", "target 2 of FACTORY_ALERT_TARGETS is no address"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "dev", "demo"])
def test_a_setting_that_cannot_work_is_told_before_anything_starts_and_no_secret_with_it(
    command: str, name: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {name}: ")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_no_traceback_shows_what_stands_in_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_MLFLOW_TRACKING_URI", "notauri://ada:secret@host")
    with pytest.raises(ValidationError) as raised:
        FactorySettings()
    assert "secret" not in str(raised.value)


def test_variables_that_nothing_reads_are_told_with_the_nearest_that_is_read(tmp_path: Path) -> None:
    macros = tmp_path / "dbt_project" / "macros"
    macros.mkdir(parents=True)
    (macros / "region.sql").write_text("{{ env_var('FACTORY_REGION') }}")
    (tmp_path / "pyproject.toml").touch()
    settings = FactorySettings(project_dir=tmp_path)
    read = {"FACTORY_WORKERS": "4", "FACTORY_REGION": "x", "DAGSTER_HOME": "/x"}
    assert find_doubts(settings, read) == []
    (told,) = find_doubts(settings, {**read, "FACTORY_WORKER": "4"})
    assert told.startswith(
        "FACTORY_WORKER: nothing reads this variable: did you mean 'FACTORY_WORKERS'? docs/how-to/settings.md"
    )


def test_what_the_shipped_dbt_profile_reads_is_no_typo() -> None:
    assert find_doubts(FactorySettings(), {"FACTORY_SANDBOX": "ada", "FACTORY_DUCKDB_MEMORY": "1GB"}) == []


def test_an_mlflow_server_that_does_not_answer_is_told_without_the_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        settings = FactorySettings(mlflow_tracking_uri=f"http://ada:secret@127.0.0.1:{port}/")
        (told,) = find_doubts(settings, {})
    assert told.startswith(f"FACTORY_MLFLOW_TRACKING_URI: 127.0.0.1:{port} does not answer (")
    assert "secret" not in told


def test_an_empty_lake_says_what_to_run_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path))
    printed = CliRunner().invoke(app, ["status"]).stdout
    assert "Nothing has run yet:\n  make demo " in printed
    assert f"takes in what lies in {tmp_path}/landing" in printed
