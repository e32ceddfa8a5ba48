from datetime import timedelta
from typing import Any

from factory_assets.lines.judging import judge
from factory_assets.lines.reporting import write_report
from factory_assets.lines.training import train_line
from tests.lines.conftest import NOW


def test_a_line_that_was_never_trained_has_a_report(stores: Any) -> None:
    assert "no champion yet" in write_report(stores, NOW)


def test_the_report_of_a_trained_line_shows_its_checks_its_drift_and_its_versions(stores: Any) -> None:
    stores.training_sets.build(NOW)
    train_line(stores, NOW, "run")
    later = NOW + timedelta(days=1)
    judge(stores, "feature_drift", later, "run")
    judge(stores, "model_age", later, "run")
    page = write_report(stores, later)
    for words in (
        "champion v1",
        "model_age",
        "feature_drift",
        "Distributions, reference against current",
        "Quality over time",
    ):
        assert words in page
    assert page.count('class="plotly-graph-div"') == 3
    stores.registry.log_page(stores.versions.champion("delay").mlflow_run_id, "report.html", page.encode())
    run = stores.versions.champion("delay").mlflow_run_id
    assert "report.html" in [file.path for file in stores.registry.client().list_artifacts(run)]
