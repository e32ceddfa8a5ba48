"""The page in a real browser: nothing from data runs, everything is drawn, and nothing is fetched."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from factory_assets.contracts.reports import FeatureDrift
from factory_assets.core.pictures.report_page import ReportContent, build_report

NOW = datetime(2013, 7, 10, 14, tzinfo=UTC)
EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>&"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def a_feature(name: str, effect: float) -> FeatureDrift:
    shares = ((0.2, 0.5, 0.3), (0.1, 0.3, 0.6))
    return FeatureDrift(name, "psi", effect, 0.2, 0.001, 0.01, effect > 0.2, *shares, ("up to 3", EVIL, "missing"))


def a_report(segments: int = 40, days: int = 10) -> ReportContent:
    rows = [
        {
            "check": "feature_drift",
            "segment": EVIL if s == 0 else f"UA/{s}",
            "feature": feature,
            "window_end_utc": NOW - timedelta(days=day),
            "effect": 0.02 * (segments - s) + 0.01 * (days - day),
            "threshold": 0.2,
            "segment_drifted": s < 5,
            "current_rows": 300 + s,
        }
        for s in range(segments)
        for day in range(days)
        for feature in ("wind", "delay")
    ]
    checks = pd.DataFrame(
        [
            {"check": "feature_drift", "passed": False, "summary": EVIL, "evaluated_at_utc": NOW},
            {"check": "model_age", "passed": True, "summary": "young", "evaluated_at_utc": NOW},
        ]
    )
    quality = pd.DataFrame([{"series": EVIL, "at_utc": NOW - timedelta(days=d), "value": 0.8 - d / 100} for d in range(5)])
    features = (a_feature("wind", 0.4), a_feature(EVIL, 0.9))
    return ReportContent("delay", 3, NOW, checks, pd.DataFrame(rows), {"all": features}, quality)


def test_the_worst_stands_first_and_failed_checks_before_passed_ones() -> None:
    page = build_report(a_report())
    table = page[page.index("Worst first") :]
    assert table.index("&lt;/script&gt;") < table.index("UA/1<") < table.index("UA/2<")
    assert page.index(">feature_drift<") < page.index(">model_age<")


def test_a_line_without_anything_has_a_page_that_says_so() -> None:
    page = build_report(ReportContent("delay", 0, NOW, pd.DataFrame(), pd.DataFrame()))
    assert "no champion yet" in page
    assert "Nothing has been compared yet" in page


def test_text_from_data_is_never_markup() -> None:
    page = build_report(a_report())
    assert "<script>document.title" not in page
    assert "<img src=x" not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
def test_in_a_browser_all_plots_are_drawn_hover_speaks_and_nothing_is_fetched(tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    file = tmp_path / "report.html"
    file.write_text(build_report(a_report()), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri(), wait_until="load")
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)
        assert page.locator(".js-plotly-plot").count() == 4
        assert page.title() == "delay: drift report"
        heat = page.locator("#figure0 .nsewdrag").first
        heat.scroll_into_view_if_needed()
        heat.hover()
        expect(page.locator("#figure0 .hoverlayer")).to_contain_text("of the limit")
        page.screenshot(path=str(tmp_path / "report.png"), full_page=True)
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
