from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from factory_assets.cli import app
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
