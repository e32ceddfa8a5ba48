import base64
import io
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from factory_assets.contracts.drift_policy import DriftSpec
from factory_assets.contracts.reports import SegmentDay, TrainingCount
from factory_assets.core.drift import build_reference
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.monitoring.freshness import evaluate_freshness
from factory_assets.core.pictures.history_plots import plot_batches, plot_trainings
from factory_assets.core.pictures.plots import (
    image_markdown,
    plot_calibration,
    plot_drift,
    plot_freshness,
    plot_importance,
    plot_predicted_against_actual,
)
from factory_assets.core.pictures.segment_plots import plot_segment_days

NOW = datetime(2013, 7, 1, tzinfo=UTC)
MOST_BYTES = 60_000


def _drift(features, rows=400, shift=1.0, segments=("all",)):
    random = np.random.default_rng(0)
    reference = pd.DataFrame({f"feature_{i}": random.normal(size=2000) for i in range(features)})
    reference["carrier $a$ <b>"] = random.choice([f"c{i}" for i in range(60)], size=2000)
    made = [build_reference(name, reference[name]) for name in reference]
    references = {segment: made for segment in segments}  # noqa: C420 (a list shared on purpose)
    current = reference.head(rows).assign(feature_0=reference["feature_0"] + shift)
    return evaluate_drift(compare_frame(references, current, np.resize(segments, rows)), DriftSpec())[0]


def _days(segments):
    return [
        SegmentDay(f"route {n} <$>", (NOW - timedelta(days=back)).date(), n / 20, n > 35)
        for n in range(segments)
        for back in range(28)
    ]


def _pictures():
    random = np.random.default_rng(0)
    scores = random.uniform(size=5000)
    labels = (random.uniform(size=5000) < scores).astype(float)
    newest = NOW - timedelta(days=3)
    return {
        "calibration": plot_calibration(labels, scores),
        "calibration of one row": plot_calibration(np.array([1.0]), np.array([0.5])),
        "no calibration": plot_calibration(np.array([]), np.array([])),
        "predicted": plot_predicted_against_actual(scores * 100, labels * 100),
        "predicted constant": plot_predicted_against_actual(np.ones(9), np.ones(9)),
        "nothing predicted": plot_predicted_against_actual(np.array([]), np.array([])),
        "importance": plot_importance([f"feature_{i}" for i in range(40)], list(range(40))),
        "importance of bad values": plot_importance(["a", "b"], [math.nan, -0.1]),
        "no importance": plot_importance([], []),
        "drift": plot_drift(_drift(20)),
        "drift of two": plot_drift(_drift(1), most=1),
        "drift not judged": plot_drift(_drift(3, rows=10)),
        "no drift": plot_drift(evaluate_drift([], DriftSpec())[0]),
        "drift of a fleet": plot_drift(_drift(3, rows=2000, segments=[f"route {n} <$>" for n in range(5)])),
        "a fleet over days": plot_segment_days(_days(40), _drift(3, rows=2000, segments=("a", "b")), NOW.date()),
        "a fleet without days": plot_segment_days([], _drift(3, rows=10, segments=("a", "b")), NOW.date()),
        "batches": plot_batches([(NOW.date() - timedelta(days=n), 900 + n) for n in range(28)], {NOW.date()}),
        "a held batch without rows": plot_batches([], {NOW.date()}),
        "no batches": plot_batches([], set()),
        "trainings": plot_trainings([TrainingCount(NOW.date(), 1000, n % 3) for n in range(12)], 2),
        "trainings without failures": plot_trainings([TrainingCount(NOW.date(), 5, 0)], 0),
        "no trainings": plot_trainings([], 0),
        "fresh": plot_freshness(evaluate_freshness("x", newest, NOW, timedelta(days=30))),
        "stale": plot_freshness(evaluate_freshness("x", newest, NOW, timedelta(hours=1))),
        "never": plot_freshness(evaluate_freshness("x", None, NOW, timedelta(hours=1))),
        "future": plot_freshness(evaluate_freshness("x", NOW + timedelta(hours=1), NOW, timedelta(hours=1))),
    }


@pytest.fixture(scope="module")
def pictures():
    return _pictures()


def test_every_picture_is_a_png_small_enough_for_metadata(pictures):
    for name, png in pictures.items():
        with Image.open(io.BytesIO(png)) as image:
            assert image.format == "PNG", name
            assert image.width > 300, name
            assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 1, f"{name} is blank"
        assert len(png) < MOST_BYTES, name


def test_the_same_input_gives_the_same_bytes(pictures):
    again = _drift(20)
    assert plot_drift(again) == pictures["drift"]


def test_what_is_drawn_depends_on_the_verdict():
    fresh, stale = (evaluate_freshness("x", NOW - timedelta(hours=3), NOW, timedelta(hours=h)) for h in (3, 2))
    assert plot_freshness(fresh) != plot_freshness(stale)
    assert plot_drift(_drift(3, shift=0.0)) != plot_drift(_drift(3, shift=1.0))
    assert plot_drift(_drift(8), most=2) != plot_drift(_drift(8), most=4)


def test_markdown_holds_the_picture_itself(pictures):
    png = pictures["fresh"]
    markdown = image_markdown(png, "fresh\nor [not]")
    assert markdown.startswith("![fresh or (not)](data:image/png;base64,")
    assert markdown.endswith(")")
    assert base64.b64decode(markdown.partition("base64,")[2][:-1]) == png
