import math
import pickle
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor

from factory_assets.contracts.estimators import BUILT_IN
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.models.artefacts import pickle_model
from factory_assets.core.models.prediction import predict_scores
from factory_assets.core.training.fit import fill_empty_columns, fit_and_evaluate
from factory_assets.core.training.time_split import SingleClassError, TooFewRowsError, check_rows, cut_by_time

HOLDOUT = timedelta(days=14)


def cut(frame, holdout, now, window=None, min_rows=100):
    split = cut_by_time(pa.Table.from_pandas(frame), "departs_utc", holdout, window, now, timedelta(0))
    check_rows(split, min_rows)
    return split


def change(rows, **columns):
    return pa.Table.from_pandas(rows.to_pandas().assign(**columns))


@pytest.fixture
def split(build_frame, now):
    return cut(build_frame(), HOLDOUT, now)


def test_the_holdout_is_the_newest_span_and_nothing_of_it_is_trained_on(split, now):
    assert split.cut_utc == now - HOLDOUT
    trained, judged = (rows["departs_utc"].to_pandas() for rows in (split.train, split.holdout))
    assert trained.max() <= split.cut_utc < judged.min()
    assert len(split.train) + len(split.holdout) == 1200


def test_a_window_leaves_old_rows_out_of_the_fit_only(build_frame, now, split):
    windowed = cut(build_frame(), HOLDOUT, now, window=timedelta(days=30))
    assert windowed.train["departs_utc"].to_pandas().min() > now - timedelta(days=44)
    assert windowed.holdout == split.holdout


def test_rows_of_the_future_are_on_neither_side(build_frame, now):
    earlier = now - timedelta(days=20)
    split = cut(build_frame(), HOLDOUT, earlier)
    assert split.holdout["departs_utc"].to_pandas().max() <= earlier


def test_naive_times_are_read_as_utc(build_frame, now, split):
    frame = build_frame()
    naive = frame.assign(departs_utc=frame["departs_utc"].dt.tz_localize(None))
    assert len(cut(naive, HOLDOUT, now).train) == len(split.train)


@pytest.mark.parametrize(("holdout", "side"), [(timedelta(days=1), "after"), (timedelta(days=99), "before")])
def test_too_few_rows_on_either_side_say_how_many_and_what_to_change(build_frame, now, holdout, side):
    with pytest.raises(TooFewRowsError, match=rf"\d+ labelled rows {side} the cut .*min_rows is 100: .*holdout"):
        cut(build_frame(), holdout, now)


def test_min_rows_is_the_fewest_allowed(build_frame, now, split):
    fewest = len(split.holdout)
    cut(build_frame(), HOLDOUT, now, min_rows=fewest)
    with pytest.raises(TooFewRowsError):
        cut(build_frame(), HOLDOUT, now, min_rows=fewest + 1)


def test_training_rows_with_one_label_are_refused(build_frame, now):
    with pytest.raises(SingleClassError, match="nothing to learn"):
        cut(build_frame().assign(label=True), HOLDOUT, now)


def test_a_naive_now_and_null_labels_are_refused(build_frame, now):
    frame = build_frame()
    gap = frame.assign(label=frame["label"].astype("float64").where(frame.index > 3))
    with pytest.raises(ValueError, match="timezone-aware"):
        cut(frame, HOLDOUT, now.replace(tzinfo=None))
    with pytest.raises(ValueError, match="drop the rows"):
        cut(gap, HOLDOUT, now)


@pytest.mark.parametrize("path", BUILT_IN)
def test_every_estimator_beats_the_dummy_on_signal(path, build_spec, build_frame, now):
    task = BUILT_IN[path]
    frame = build_frame(task=task)
    if "Poisson" in path:
        frame["label"] = np.exp(frame["label"])
    split = cut(frame, HOLDOUT, now)
    params = {"n_estimators": 20} if "Forest" in path or "Trees" in path else {}
    evaluation = fit_and_evaluate(build_spec(estimator=path, params=params), split).evaluation
    metric = evaluation.metric
    better = evaluation.scores[metric] > evaluation.dummy[metric]
    assert better if task == "classification" else evaluation.scores[metric] < evaluation.dummy[metric]
    assert evaluation.rows == len(split.holdout)
    assert all(math.isfinite(value) for value in (*evaluation.scores.values(), *evaluation.baseline.values()))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_dummy_is_scikit_learns(build_spec, build_frame, now, task):
    dummy = DummyClassifier(strategy="prior") if task == "classification" else DummyRegressor(strategy="mean")
    kind = "Classifier" if task == "classification" else "Regressor"
    spec = build_spec(estimator=f"sklearn.ensemble.HistGradientBoosting{kind}", params={"max_iter": 2})
    split = cut(build_frame(task=task), HOLDOUT, now)
    train, holdout = split.train.to_pandas(), split.holdout.to_pandas()
    dummy.fit(train[["delay"]], train["label"])
    scores = dummy.predict_proba(holdout)[:, 1] if task == "classification" else dummy.predict(holdout)
    expected = evaluate_metrics(task, holdout["label"].to_numpy(), scores)
    assert fit_and_evaluate(spec, split).evaluation.dummy == pytest.approx(expected, nan_ok=True)


def test_the_holdout_scores_are_those_of_the_one_predict_path(build_spec, split):
    spec = build_spec()
    trained = fit_and_evaluate(spec, split)
    scores = predict_scores(trained.model, split.holdout, trained.numeric, trained.categorical, spec.task)
    np.testing.assert_array_equal(scores, trained.holdout_scores)
    assert trained.holdout_labels.tolist() == split.holdout["label"].to_pylist()


@pytest.mark.parametrize("name", ["HistGradientBoostingClassifier", "RandomForestClassifier"])
@pytest.mark.parametrize("entity", [["flight_id"], ["flight_id", "departs_utc"]])
def test_equal_rows_give_equal_bytes_whatever_their_order_and_dtypes(name, entity, build_spec, split):
    """A bootstrap draws rows by position, so a forest is the one that minds their order."""
    spec = build_spec(estimator=f"sklearn.ensemble.{name}", params={"max_depth": 4}, entity=entity)
    first = fit_and_evaluate(spec, split)
    other = split.train.to_pandas().sample(frac=1, random_state=1)
    other = other.astype({"delay": "Float64", "carrier": "category", "weekend": "int8"})
    second = fit_and_evaluate(spec, replace(split, train=pa.Table.from_pandas(other, preserve_index=False)))
    assert pickle_model(first.model) == pickle_model(second.model)
    assert first.references == second.references


def test_the_number_of_threads_is_not_in_the_model(build_spec, split):
    assert fit_and_evaluate(build_spec(), split).model.named_steps["model"]._bin_mapper.n_threads is None


def test_trees_without_splits_by_category_share_their_empty_tables(build_spec, split):
    def tables(**changes):
        model = fit_and_evaluate(build_spec(params={"max_iter": 5}, **changes), split).model
        trees = [tree for (tree,) in pickle.loads(pickle_model(model)).named_steps["model"]._predictors]
        return [table for tree in trees for table in (tree.raw_left_cat_bitsets, tree.binned_left_cat_bitsets)]

    assert len({id(table) for table in tables(features=["delay"])}) == 1
    assert max(len(table) for table in tables()) > 0


def test_seed_params_and_features_of_the_spec_change_the_model(build_spec, split):
    plain = {"estimator": "sklearn.ensemble.ExtraTreesClassifier", "params": {"n_estimators": 3}}
    changes = [{"validation": {"seed": 1}}, {"params": {"n_estimators": 4}}, {"features": ["delay"]}]
    models = {pickle_model(fit_and_evaluate(build_spec(**plain | change), split).model) for change in [{}, *changes]}
    assert len(models) == 4


def test_absent_features_mean_every_column_but_keys_time_and_label(build_spec, split):
    trained = fit_and_evaluate(build_spec(), split)
    assert trained.numeric == ("delay", "unknown", "weekend")
    assert trained.categorical == ("carrier",)
    chosen = fit_and_evaluate(build_spec(features=["carrier", "delay"]), split)
    assert (chosen.numeric, chosen.categorical) == (("delay",), ("carrier",))


def test_features_are_referenced_from_training_rows_and_predictions_from_the_holdout(build_spec, split):
    references = {reference.feature: reference for reference in fit_and_evaluate(build_spec(), split).references}
    assert sorted(references) == ["carrier", "delay", "label", "prediction", "unknown", "weekend"]
    assert sum(references["label"].counts) == len(split.train)
    assert all(sum(references[name].counts) == len(split.train) for name in ("delay", "unknown", "carrier"))
    assert sum(references["prediction"].counts) == len(split.holdout)
    assert references["unknown"].counts == (0, len(split.train))


def test_an_undefined_holdout_metric_stays_undefined(build_spec, split):
    one_class = replace(split, holdout=change(split.holdout, label=False))
    assert math.isnan(fit_and_evaluate(build_spec(), one_class).evaluation.scores["roc_auc"])


def test_a_classification_label_other_than_0_and_1_is_refused(build_spec, split):
    with pytest.raises(ValueError, match="0 or 1"):
        fit_and_evaluate(build_spec(), replace(split, train=change(split.train, label=2)))


def test_a_feature_named_as_the_output_is_refused(build_spec, split):
    clash = replace(split, train=change(split.train, prediction=1.0))
    with pytest.raises(ValueError, match="rename"):
        fit_and_evaluate(build_spec(), clash)


def test_only_empty_columns_are_filled():
    frame = pd.DataFrame({"empty": [np.nan, np.nan], "half": [np.nan, 1.0]})
    assert fill_empty_columns(frame, ["empty", "half"]).isna().sum().tolist() == [0, 1]
    assert fill_empty_columns(frame[["half"]], ["half"])["half"].isna().sum() == 1
