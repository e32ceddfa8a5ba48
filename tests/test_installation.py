"""Dagster's home as an installation keeps it over releases."""

from pathlib import Path

import pytest

from factory_assets import installation
from factory_assets.installation import prepare_dagster_home
from factory_assets.settings import FactorySettings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FactorySettings:
    for name in ("DAGSTER_HOME", "FACTORY_DATA_DIR", "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"):
        monkeypatch.setenv(name, "")  # set by what is tested; given back afterwards
    return FactorySettings(data_dir=tmp_path / "data")


def ship(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A later release, whose dagster.yaml says something else."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(text)
    monkeypatch.setattr(installation, "files", lambda _: folder)


def test_a_later_releases_settings_reach_a_home_that_nobody_edited(
    settings: FactorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare_dagster_home(settings) == ""
    ship(tmp_path / "later", monkeypatch, "telemetry: {enabled: false}\n")
    assert prepare_dagster_home(settings) == ""
    assert (settings.dagster_home / "dagster.yaml").read_text().endswith("\ntelemetry: {enabled: false}\n")


def test_an_edited_home_is_kept_and_the_keys_that_differ_are_named(
    settings: FactorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_dagster_home(settings)
    config = settings.dagster_home / "dagster.yaml"
    edited = config.read_text().replace("max_concurrent_runs: 2", "max_concurrent_runs: 8")
    config.write_text(edited)
    notice = prepare_dagster_home(settings)
    assert f"{config} was edited and is kept; it differs" in notice
    assert "in concurrency.runs.max_concurrent_runs. Delete it" in notice
    assert config.read_text() == edited
