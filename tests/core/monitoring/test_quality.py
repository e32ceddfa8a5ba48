import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from factory_assets.contracts.model_line import QualitySpec
from factory_assets.contracts.reports import Evaluation
from factory_assets.core.drift import build_score_profile
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.monitoring.quality import ScoredRows, evaluate_quality, explain_labels, weighted_metric

CLASSIFICATION = ["roc_auc", "average_precision", "log_loss", "brier"]


def world(seed, rows=6000, spread=1.5, noise=0.0, offset=0.0):
    """Scores that tell the chance of a label, days of 200 rows; `noise` makes labels worse than the scores say."""
    random = np.random.default_rng(seed)
    logit = random.normal(offset, spread, size=rows)
    scores = 1 / (1 + np.exp(-logit))
    labels = (random.uniform(size=rows) < 1 / (1 + np.exp(-(logit + random.normal(scale=noise, size=rows) * 1.0)))).astype(
        float
    )
    if noise:
        swapped = random.uniform(size=rows) < noise / 4
        labels[swapped] = 1 - labels[swapped]
    return ScoredRows(scores, labels, np.arange(rows) // 200)


def champion(metric="roc_auc", task="classification", rows=None):
    rows = rows or world(0)
    dummy = np.full(len(rows.scores), rows.labels.mean())
    evaluation = Evaluation(
        metric,
        len(rows.scores),
        evaluate_metrics(task, rows.labels, rows.scores),
        evaluate_metrics(task, rows.labels, dummy),
        {},
    )
    return evaluation, build_score_profile(rows.scores, rows.labels)


def judge(rows, metric="roc_auc", labelled=True, of=None, **keys):
    keys = {"max_loss": 0.2, "min_rows": 200, "level": 0.01} | keys
    return evaluate_quality(metric, *(of or champion(metric)), rows, labelled=labelled, **keys)


class TestMetrics:
    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.integers(1, 4)), min_size=4))
    def test_weighted_metrics_are_those_of_scikit_learn(self, rows):
        labels, scores, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
        if 0 < labels.sum() < len(labels):
            ours = {name: weighted_metric(name, labels, scores, weights[None, :])[0] for name in CLASSIFICATION}
            assert ours["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, scores, sample_weight=weights))
            assert ours["average_precision"] == pytest.approx(
                metrics.average_precision_score(labels, scores, sample_weight=weights)
            )
            assert ours["log_loss"] == pytest.approx(metrics.log_loss(labels, scores, sample_weight=weights))
            assert ours["brier"] == pytest.approx(np.average((labels - scores) ** 2, weights=weights))

    def test_of_regressions_too(self):
        random = np.random.default_rng(0)
        labels, scores = random.normal(size=(2, 50))
        ours = {name: weighted_metric(name, labels, scores, np.ones((1, 50)))[0] for name in ("mae", "rmse", "r2")}
        assert ours == pytest.approx(evaluate_metrics("regression", labels, scores))

    def test_of_one_class_is_undefined(self):
        assert np.isnan(weighted_metric("roc_auc", np.ones(3), np.array([0.1, 0.2, 0.3]), np.ones((1, 3)))[0])


class TestRealised:
    @pytest.mark.parametrize("metric", CLASSIFICATION)
    def test_a_model_that_does_as_on_its_holdout_holds(self, metric):
        report = judge(world(1, rows=3000), metric)
        assert report.judged
        assert not report.decayed
        assert abs(report.realised - report.reference) < 5 * report.realised_error + 0.02

    @pytest.mark.parametrize("metric", CLASSIFICATION)
    def test_labels_that_the_scores_no_longer_tell_are_decay(self, metric):
        report = judge(world(1, rows=3000, noise=2.0), metric)
        assert report.decayed
        assert report.unexplained > 0.2

    def test_a_season_that_the_features_explain_is_not(self):
        """Scores closer together: the metric falls, and it falls as far as the scores say."""
        report = judge(world(1, rows=3000, spread=0.7))
        assert report.loss > 0.25
        assert abs(report.unexplained) < 0.1
        assert not report.decayed
        assert "of which the features do not explain" in report.reason

    def test_the_interval_is_that_of_whole_days(self):
        # Off the middle, or both labels would cost the same and a day's common label nothing.
        rows = world(1, rows=3000, offset=1.5)
        one_day_each = judge(ScoredRows(rows.scores, rows.labels, np.arange(3000)), "brier")
        assert 0.5 < judge(rows, "brier").realised_error / one_day_each.realised_error < 2
        shared = np.repeat(rows.labels[::200], 200)
        assert judge(ScoredRows(rows.scores, shared, rows.days), "brier").realised_error > 2 * one_day_each.realised_error

    def test_false_alarms_keep_their_level(self):
        verdicts = [judge(world(seed, rows=1000), max_loss=1e-9, level=0.05) for seed in range(100, 160)]
        assert sum(report.decayed for report in verdicts) <= 8

    def test_a_regression_is_judged_by_its_errors(self):
        random = np.random.default_rng(0)
        truth = random.normal(10, 3, size=4000)

        def rows(error, seed):
            noise = np.random.default_rng(seed).normal(scale=error, size=4000)
            return ScoredRows(truth + noise, truth, np.arange(4000) // 200)

        of = champion("mae", "regression", rows(1.0, 1))
        assert not judge(rows(1.0, 2), "mae", of=of).decayed
        assert judge(rows(2.0, 2), "mae", of=of).decayed


class TestEstimated:
    @pytest.mark.parametrize("metric", CLASSIFICATION)
    def test_the_estimate_is_right_where_only_the_features_changed(self, metric):
        changed = world(1, rows=6000, spread=0.8, offset=0.4)
        report = judge(changed, metric, labelled=False)
        truth = evaluate_metrics("classification", changed.labels, changed.scores)[metric]
        assert report.expected == pytest.approx(truth, abs=4 * report.expected_error + 0.01)
        assert report.realised is None

    def test_the_area_is_that_of_every_row_with_both_labels_by_their_chance(self):
        rows = world(1, rows=3000)
        _, profile = of = champion()
        chance = np.array(profile.mean_label)[np.searchsorted(profile.cuts, rows.scores, side="left")]
        both, twice = np.r_[np.ones(3000), np.zeros(3000)], np.r_[rows.scores, rows.scores]
        area = metrics.roc_auc_score(both, twice, sample_weight=np.r_[chance, 1 - chance])
        assert judge(rows, labelled=False, of=of).expected == pytest.approx(area, abs=1e-12)

    def test_needs_no_labels(self):
        rows = world(1, rows=3000)
        unlabelled = ScoredRows(rows.scores, np.full(3000, np.nan), rows.days)
        assert judge(unlabelled, labelled=False).judged
        assert not judge(unlabelled).judged

    def test_an_expected_loss_is_told(self):
        report = judge(world(1, rows=3000, spread=0.5), labelled=False)
        assert report.decayed
        assert "is expected to have decayed" in report.reason

    def test_of_a_regression_is_the_error_of_scores_alike(self):
        random = np.random.default_rng(0)
        scores = random.uniform(0, 10, size=8000)
        rows = ScoredRows(scores, scores + random.normal(size=8000) * scores, np.arange(8000) // 200)
        of = champion("mae", "regression", rows)
        low = ScoredRows(scores[scores < 5], np.full((scores < 5).sum(), np.nan), rows.days[scores < 5])
        report = judge(low, "mae", labelled=False, of=of)
        assert report.expected == pytest.approx(np.mean(np.abs(rows.scores - rows.labels)[scores < 5]), rel=0.03)

    def test_r2_is_refused_and_said(self):
        rows = world(1)
        report = judge(rows, "r2", labelled=False, of=champion("r2", "regression", rows))
        assert not report.judged
        assert report.reason == "Not judged: r2 cannot be estimated before labels are known."


class TestKeys:
    def test_max_loss(self):
        rows = world(1, rows=3000, noise=1.0)
        assert (judge(rows, max_loss=0.1).decayed, judge(rows, max_loss=0.9).decayed) == (True, False)

    def test_max_expected_loss(self):
        rows = world(1, rows=3000, spread=0.5)

        def decayed(**keys):
            return judge(rows, labelled=False, max_loss=QualitySpec(**keys).limit_of("estimated_quality")).decayed

        assert (decayed(max_expected_loss=0.1, max_loss=0.9), decayed(max_expected_loss=0.9, max_loss=0.1)) == (True, False)

    def test_min_rows(self):
        rows = world(1, rows=600, noise=2.0)
        assert (judge(rows, min_rows=600).decayed, judge(rows, min_rows=601).judged) == (True, False)

    def test_level(self):
        rows = world(1, rows=3000, noise=2.0)
        assert (judge(rows, level=0.05).decayed, judge(rows, level=1e-300).decayed) == (True, False)

    def test_a_loss_beyond_the_limit_needs_only_be_beyond_noise_to_count(self):
        """The limit says how large a loss matters, the level how sure it has to be that there is one."""
        rows = world(1, rows=3000, noise=1.0)
        loss = judge(rows).loss
        assert judge(rows, max_loss=0.95 * min(loss, judge(rows).unexplained)).decayed
        assert not judge(rows, max_loss=1.05 * loss).decayed

    def test_no_level_makes_an_alarm_of_what_is_within_noise(self):
        verdicts = [judge(world(seed, rows=1000), max_loss=1e-9, level=0.5) for seed in range(100, 160)]
        assert sum(report.decayed for report in verdicts) <= 8


class TestLabels:
    def test_a_share_that_the_scores_foresaw_is_explained(self):
        _, profile = champion()
        gap, p_value = explain_labels(profile, world(1, offset=0.8), "classification")
        assert abs(gap) < 0.03
        assert p_value > 0.01

    def test_a_share_that_they_did_not_is_not(self):
        _, profile = champion()
        rows = world(1)
        more = ScoredRows(rows.scores, np.maximum(rows.labels, np.random.default_rng(0).uniform(size=6000) < 0.2), rows.days)
        gap, p_value = explain_labels(profile, more, "classification")
        assert gap > 0.05
        assert p_value < 1e-6

    def test_no_labels_say_nothing(self):
        _, profile = champion()
        assert explain_labels(profile, ScoredRows(np.ones(3), np.full(3, np.nan), np.zeros(3)), "classification") == (
            0.0,
            1.0,
        )
