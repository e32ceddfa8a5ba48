"""The link from the Dagster UI to the drift report opens, where `factory dev` serves the reports."""

import socket
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
import pytest

from factory_assets.components.model_line.report import build_report_asset
from factory_assets.report_server import serve_reports
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from tests.declared_lines import thing_line


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FactorySettings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("FACTORY_REPORTS_URL", f"http://127.0.0.1:{probe.getsockname()[1]}/")
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path))
    return FactorySettings()


def test_the_link_in_the_metadata_opens_the_page_and_the_path_stands_beside_it(settings: FactorySettings) -> None:
    run = dg.materialize([build_report_asset(thing_line())], resources=build_resources(settings))
    metadata = run.asset_materializations_for_node("delay__report")[0].metadata
    with serve_reports(settings) as notice, urllib.request.urlopen(str(metadata["open"].value)) as answer:
        page = answer.read()
    assert notice == ""
    assert answer.headers.get_content_type() == "text/html"
    assert answer.headers["Content-Disposition"] is None
    assert page == Path(str(metadata["report"].value)).read_bytes()
    assert b"delay: drift report" in page


def test_nothing_but_the_reports_is_served(settings: FactorySettings) -> None:
    settings.clock.write_text("{}")
    with serve_reports(settings), pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{settings.reports_url}../{settings.clock.name}")


def test_a_taken_port_is_said_and_costs_nothing_else(settings: FactorySettings) -> None:
    with serve_reports(settings) as first, serve_reports(settings) as second:
        assert first == ""
        assert "FACTORY_REPORTS_URL" in second


@pytest.mark.parametrize("address", ["https://reports.example.com", "https://127.0.0.1:8443", "http://reports.example.com"])
def test_an_address_that_is_no_port_of_this_machine_is_left_to_others(
    settings: FactorySettings, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTORY_REPORTS_URL", address)
    with serve_reports(FactorySettings()) as notice:
        assert notice == ""
    assert not settings.reports.exists()
