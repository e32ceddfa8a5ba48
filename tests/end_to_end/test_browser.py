"""The Dagster UI in a real browser, after the demo: lineage, the retrain with its cause, pictures, and the drift report."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from factory_assets.report_server import serve_reports
from factory_assets.settings import FactorySettings
from tests.end_to_end.conftest import ROOT, environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_INSTALL = "no browser: install one with `make browser` (apt-get install chromium)"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
_PATIENCE_MS = 60_000

if CHROMIUM is None and os.environ.get("TEST_BROWSER_REQUIRED"):
    pytest.fail(_INSTALL, pytrace=False)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=_INSTALL)]


@pytest.fixture(scope="module")
def ui(played_demo: Path) -> Iterator[str]:
    """The address of a real webserver on the demo's data, on loopback."""
    port = _free_port()
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-w", "workspace.yaml"]
    log = (played_demo / "webserver.log").open("wb")
    server = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)],
        cwd=ROOT,
        env=environment(played_demo),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/server_info", server)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def page(ui: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1800, "height": 1100})
        page.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        # The first visit greets with a dialogue that covers the page.
        page.add_locator_handler(page.get_by_role("button", name="Skip"), lambda button: button.click())
        yield page
        browser.close()


@pytest.fixture(scope="module")
def report(played_demo: Path) -> Iterator[None]:
    """The drift report of a line, written now and served as `factory dev` serves it."""
    settings = FactorySettings(data_dir=played_demo, reports_url=f"http://127.0.0.1:{_free_port()}")
    dagster = str(Path(sys.executable).with_name("dagster"))
    subprocess.run(
        [dagster, "asset", "materialize", "--select", "arrival_delay/report", "-m", "factory_assets.definitions"],
        cwd=ROOT,
        env={**environment(played_demo), "FACTORY_REPORTS_URL": settings.reports_url},
        capture_output=True,
        check=True,
    )
    with serve_reports(settings):
        yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the webserver ended by itself"
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def _keep(page: Page, name: str) -> None:
    """Pictures for a person to look at, where TEST_SCREENSHOTS names a folder."""
    folder = os.environ.get("TEST_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png")


def test_the_lineage_page_shows_source_to_predictions(ui: str, page: Page) -> None:
    page.goto(f"{ui}/asset-groups", wait_until="domcontentloaded")
    for group in ("sources", "staging", "marts", "features", "arrival_delay", "departure_volume"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    _keep(page, "lineage_groups")
    query = 'key:"arrival_delay/predictions" or +key:"arrival_delay/predictions"'
    page.goto(f"{ui}/asset-groups?asset-selection={urllib.parse.quote(query)}", wait_until="domcontentloaded")
    for group in ("sources", "staging", "marts", "features", "arrival_delay"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    _keep(page, "lineage")


@pytest.mark.parametrize(
    ("asset", "upstream"),
    [
        ("staging/stg_flights", "flights"),
        ("marts/fct_flight", "stg_flights"),
        ("features/feat_flight_departure", "fct_flight"),
        ("arrival_delay/training_set", "feat_flight_departure"),
        ("arrival_delay/models", "training_set"),
        ("arrival_delay/predictions", "models"),
    ],
)
def test_each_step_of_the_chain_is_drawn_in_the_lineage_of_its_asset(ui: str, page: Page, asset: str, upstream: str) -> None:
    page.goto(f"{ui}/assets/{asset}?view=lineage&lineageScope=upstream", wait_until="domcontentloaded")
    expect(page.get_by_text(re.compile(f"^{upstream}$")).first).to_be_visible()


def test_the_runs_page_shows_the_sensors_retrain_with_its_cause(ui: str, page: Page) -> None:
    page.goto(f"{ui}/runs", wait_until="domcontentloaded")
    expect(page.get_by_text("arrival_delay__retrain", exact=True).first).to_be_visible()
    expect(page.get_by_text("arrival_delay__retraining_se", exact=False).first).to_be_visible()
    expect(page.get_by_text("factory/cause: feature_drift", exact=False).first).to_be_visible()
    _keep(page, "runs")


def test_the_failed_drift_check_shows_its_picture(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/arrival_delay/predictions?view=checks&checkDetail=feature_drift", wait_until="domcontentloaded")
    expect(page.get_by_text(re.compile(r"features drifted, in .*psi 0\.\d+, limit 0\.2")).first).to_be_visible()
    page.get_by_text("Show Markdown").first.click()
    picture = page.get_by_role("dialog").locator("img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 300 && image.naturalHeight > 150")
    _keep(page, "drift")


def test_freshness_is_shown_and_the_models_page_says_what_the_gate_said(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/arrival_delay/models", wait_until="domcontentloaded")
    expect(page.get_by_text("Freshness policy").first).to_be_visible()
    expect(page.get_by_text(re.compile("Promoted: ")).first).to_be_visible()
    _keep(page, "models")


@pytest.mark.usefixtures("report")
def test_a_click_on_the_link_of_the_report_opens_it(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/arrival_delay/report", wait_until="domcontentloaded")
    with page.expect_popup() as opened:
        page.get_by_role("link", name=re.compile(r"arrival_delay\.html")).first.click()
    shown = opened.value
    expect(shown).to_have_title("arrival_delay: drift report")
    expect(shown.locator(".plotly-graph-div .main-svg").first).to_be_visible()
    _keep(shown, "report")
    shown.close()
