import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from factory_assets.contracts.drift_policy import DriftSpec
from factory_assets.core.drift import build_reference, numeric_references
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.verdicts import evaluate_drift

VALUES = st.lists(st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1.0])), max_size=60)


def _judge(reference, current, history=None, checks=1, **spec):
    references = {"all": [build_reference(name, reference[name]) for name in reference]}
    return evaluate_drift(compare_frame(references, current), DriftSpec(**spec), history, checks)[0]


def _normal(rows, seed, shift=0.0):
    return pd.DataFrame({"x": np.random.default_rng(seed).normal(shift, size=rows)})


class TestVerdict:
    @pytest.mark.parametrize("seed", range(20))
    def test_a_random_split_of_the_same_rows_does_not_drift(self, seed):
        random = np.random.default_rng(seed)
        frame = pd.DataFrame(random.normal(size=(3000, 10))).rename(columns="f{}".format)
        frame["f0"] = np.round(frame["f0"])
        frame["t"] = random.choice(list("abcdefgh"), size=3000)
        report = _judge(frame.iloc[:2700], frame.iloc[2700:])
        assert report.judged
        assert not report.drifted

    def test_a_shift_of_half_a_deviation_is_found_in_a_thousand_rows(self):
        """Its true PSI is about 0.23, so it scatters around a threshold of 0.2 and clears one of 0.1 for certain."""
        pairs = [(_normal(5000, seed), _normal(1000, seed + 100, shift=0.5)) for seed in range(20)]
        assert all(_judge(*pair, threshold=0.1, false_discovery_rate=1e-9).drifted for pair in pairs)
        assert sum(_judge(*pair).drifted for pair in pairs) >= 15
        assert all(_judge(before, after + 0.25).drifted for before, after in pairs)

    def test_a_feature_gone_missing_is_drift(self):
        current = _normal(500, 1)
        current.loc[::2, "x"] = np.nan
        assert _judge(_normal(5000, 0), current).drifted

    def test_a_new_category_taking_over_is_drift(self):
        reference = pd.DataFrame({"t": ["a", "b"] * 500})
        assert _judge(reference, pd.DataFrame({"t": ["a", "b", "new"] * 100})).drifted

    def test_the_effect_must_be_above_the_threshold_however_significant(self):
        reference, current = _normal(100_000, 0), _normal(50_000, 1, shift=0.1)
        report = _judge(reference, current)
        assert report.features[0].p_adjusted < 1e-9
        assert not report.drifted
        assert _judge(reference, current, threshold=0.005).drifted

    def test_the_effect_must_be_significant_however_large(self):
        reference, current = _normal(500, 0), _normal(60, 3, shift=0.35)
        report = _judge(reference, current, min_rows=50)
        assert report.features[0].effect > 0.2
        assert not _judge(reference, current, min_rows=50, false_discovery_rate=report.features[0].p_adjusted / 2).drifted
        assert _judge(reference, current, min_rows=50, false_discovery_rate=report.features[0].p_adjusted).drifted

    def test_a_small_window_is_not_judged_and_its_numbers_are_shown(self):
        report = _judge(_normal(5000, 0), _normal(199, 1, shift=3))
        assert not report.judged
        assert not report.drifted
        assert not report.features[0].drifted
        assert report.features[0].effect > 0.2
        assert "199 current rows" in report.reason
        assert _judge(_normal(5000, 0), _normal(200, 1, shift=3)).drifted

    def test_no_rows_and_no_features_are_not_judged_or_not_drifted(self):
        nothing = _judge(_normal(500, 0), _normal(0, 1))
        assert not nothing.judged
        assert nothing.features[0].effect == 0.0
        assert nothing.features[0].p_value == 1.0
        assert evaluate_drift([], DriftSpec())[0].reason == "Not judged: there is no reference to compare with."

    def test_p_values_are_adjusted_over_the_features(self):
        reference = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 12))).rename(columns="f{}".format)
        report = _judge(reference.iloc[:2000], reference.iloc[2000:])
        raw = [feature.p_value for feature in report.features]
        expected = stats.false_discovery_control(raw, method="bh")
        assert [feature.p_adjusted for feature in report.features] == pytest.approx(expected)

    def test_the_reason_names_the_worst_features_with_numbers(self):
        reference = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 5))).rename(columns="f{}".format)
        current = reference.head(600).add(np.arange(5))
        report = _judge(reference, current)
        assert report.drifted_features == ("f4", "f3", "f2", "f1")
        assert report.reason.startswith("4 of 5 features drifted, in 600 current against 3,000 reference rows: f4 (psi ")
        assert report.reason.endswith("and 1 more.")

    def test_one_column_alone_is_called_by_its_name_and_no_feature(self):
        reference = pd.DataFrame({"prediction": np.random.default_rng(0).normal(size=3000)})
        drifted, same = _judge(reference, reference.head(600) + 2), _judge(reference, reference.head(600))
        assert drifted.reason.startswith("prediction drifted, in 600 current against 3,000 reference rows: psi ")
        assert same.reason.startswith("prediction did not drift, in 600 current against 3,000 reference rows: psi ")

    def test_shares_add_up_and_have_one_label_each(self):
        feature = _judge(_normal(500, 0), _normal(300, 1)).features[0]
        assert sum(feature.reference_share) == pytest.approx(1)
        assert sum(feature.current_share) == pytest.approx(1)
        assert len(feature.bin_labels) == len(feature.reference_share) == len(feature.current_share)

    def test_the_order_of_rows_does_not_matter(self):
        reference, current = _normal(2000, 0), _normal(400, 1, shift=0.2)
        assert _judge(reference, current) == _judge(reference.iloc[::-1], current.sample(frac=1, random_state=0))

    def test_an_absent_column_is_a_broken_contract(self):
        with pytest.raises(ValueError, match=r"\['x'\].*broken contract"):
            _judge(_normal(500, 0), pd.DataFrame({"y": [1.0]}))

    @settings(max_examples=60)
    @given(VALUES, VALUES, st.sampled_from(["auto", "analytic", "permutation"]))
    def test_any_numbers_give_finite_figures(self, before, after, null):
        report = _judge(
            pd.DataFrame({"x": before}, dtype="float64"), pd.DataFrame({"x": after}, dtype="float64"), min_rows=20, null=null
        )
        for feature in report.features:
            assert math.isfinite(feature.effect)
            assert 0 <= feature.p_adjusted <= 1
        assert not report.drifted or report.judged


def _fleet(rows, seed, segments=200, shifted=0, shift=1.0):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(random.normal(size=(rows * segments, 3)), columns=["a", "b", "c"])
    keys = np.repeat([f"s{n:03d}" for n in range(segments)], rows)
    frame.loc[: rows * shifted - 1, "a"] += shift
    return frame, keys


class TestFleet:
    @pytest.fixture(scope="class")
    def references(self):
        frame, keys = _fleet(600, 0)
        return {key: numeric_references(list(frame), rows.to_numpy(), None) for key, rows in frame.groupby(keys)}

    def judge(self, references, rows=210, seed=1, shifted=0, shift=1.0, history=None, checks=1, **spec):
        frame, keys = _fleet(rows, seed, shifted=shifted, shift=shift)
        return evaluate_drift(compare_frame(references, frame, keys), DriftSpec(**spec), history, checks)

    def test_the_shifted_segments_fail_and_no_other(self, references):
        report, _ = self.judge(references, shifted=7)
        assert sorted(report.failing_segments) == [f"s{n:03d}" for n in range(7)]
        assert report.reason.startswith("7 of 200 judged segments drifted. 1 of 3 features drifted in segment s00")

    def test_the_worst_segment_comes_first_with_its_features(self, references):
        report, table = self.judge(references, shifted=7)
        worst = report.segments[0]
        assert worst.segment == report.failing_segments[0]
        mine = table.segments == worst.segment
        assert report.features[0].effect == max(table.effects[mine])
        assert (worst.worst_feature, report.drifted_features) == ("a", ("a",))

    def test_a_fleet_judges_a_segment_as_strictly_as_there_are_segments(self, references):
        """What one model would be retrained for, a thousand would show by chance."""
        few = {segment: references[segment] for segment in list(references)[:2]}
        frame, keys = _fleet(60, 3, segments=2, shifted=1, shift=0.6)
        alone, _ = evaluate_drift(compare_frame(few, frame, keys), DriftSpec(min_rows=20))
        crowd, crowd_keys = _fleet(60, 4)
        crowd.iloc[: len(frame)] = frame.to_numpy()
        report, _ = evaluate_drift(compare_frame(references, crowd, crowd_keys), DriftSpec(min_rows=20))
        assert alone.failing_segments == ("s000",)
        assert not report.drifted

    def test_unchanged_segments_hold_the_promise_of_a_month(self, references):
        days = [self.judge(references, rows=50, seed=10 + day, min_rows=20, threshold=0.01)[0] for day in range(30)]
        assert sum(len(day.failing_segments) for day in days) <= 3


def _verdict(seed=2, shift=0.5, rows=400, reference=None, history=None, checks=1, **spec):
    before = _normal(3000, 1) if reference is None else reference
    return _judge(before, _normal(rows, seed, shift=shift), history, checks, **spec).drifted


class TestEachKeyChangesTheVerdict:
    def test_threshold(self):
        assert (_verdict(threshold=0.1), _verdict(threshold=0.5)) == (True, False)

    def test_measure(self):
        assert (_verdict(threshold=0.12), _verdict(measure="jensen_shannon", threshold=0.21)) == (True, False)

    @pytest.mark.parametrize("kind", ["numeric", "features"])
    def test_measure_and_threshold_of_a_kind_and_of_a_feature(self, kind):
        def spec(**keys):
            return {kind: {"x": keys} if kind == "features" else keys}

        assert _verdict(threshold=9.0, **spec(measure="ks")) is True
        assert _verdict(threshold=0.1, **spec(measure="wasserstein", threshold=0.8)) is False
        assert _verdict(threshold=0.1, **spec(threshold=0.9)) is False

    def test_measure_and_threshold_of_text(self):
        before, after = pd.DataFrame({"t": ["a"] * 500 + ["b"] * 500}), pd.DataFrame({"t": ["a"] * 200 + ["b"] * 100})
        assert _judge(before, after, threshold=0.05).drifted
        assert not _judge(before, after, threshold=0.05, categorical={"threshold": 0.3}).drifted
        assert not _judge(before, after, threshold=0.05, categorical={"measure": "cramers_v"}).drifted
        assert _judge(before, after, categorical={"measure": "cramers_v", "threshold": 0.1}).drifted

    def test_min_rows(self):
        assert (_verdict(rows=60, shift=1.5, min_rows=50), _verdict(rows=60, shift=1.5, min_rows=61)) == (True, False)

    def test_null(self):
        """Thirty rows leave three in a bin, where the formula pools everything and is blind."""
        verdicts = {
            null: _verdict(rows=30, shift=1.5, min_rows=20, null=null) for null in ("auto", "analytic", "permutation")
        }
        assert verdicts == {"auto": True, "analytic": False, "permutation": True}

    def test_exchangeable(self):
        random = np.random.default_rng(0)
        days = np.repeat(np.arange(60), 50)
        before = pd.Series(random.normal(size=60)[days])
        after = pd.DataFrame({"x": random.normal(size=7)[np.repeat(np.arange(7), 50)]})
        references = {"all": [build_reference("x", before, days)]}
        verdicts = [
            evaluate_drift(compare_frame(references, after), DriftSpec(exchangeable=what))[0].drifted
            for what in ("rows", "days")
        ]
        assert verdicts == [True, False]

    def test_false_discovery_rate(self):
        assert (_verdict(false_discovery_rate=0.05), _verdict(false_discovery_rate=1e-30)) == (True, False)

    def test_false_alarms_per_month(self):
        assert (_verdict(false_alarms_per_month=1), _verdict(false_alarms_per_month=1e-20)) == (True, False)

    def test_hysteresis(self):
        waits = {"hysteresis": {"hits": 2, "of": 3}}
        assert _verdict(**waits) is False
        assert _verdict(**waits, history={"all": 1}) is True
        assert _verdict(**waits, history={"all": 1}, shift=0.0) is False

    def test_the_checks_that_share_the_promise(self):
        p_value = _judge(_normal(3000, 1), _normal(400, 2, shift=0.5)).segments[0].p_value
        promise = {"false_alarms_per_month": p_value * 30 * 1.5}
        assert (_verdict(**promise), _verdict(**promise, checks=2)) == (True, False)
