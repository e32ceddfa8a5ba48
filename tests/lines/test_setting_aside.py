"""What a cycle holds of its fits until it is decided: places on disk, and never the bytes of all of them."""

import pickle
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from factory_assets.contracts.reports import Evaluation, FeatureReference, ScoreProfile
from factory_assets.core.models.artefacts import PackedModel, StoredModel, pack_model, stream_bundle
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.lines.setting_aside import SetAside

_MODEL_BYTES = 200_000


def result(segment: str, seed: int = 0) -> SegmentResult:
    """A fit with a model that compresses badly and references of a usual size."""
    random = np.random.default_rng(seed)
    scores = random.random(10)
    references = tuple(
        FeatureReference(f"x{place}", tuple(random.random(50).tolist()), (), tuple(range(300, 352))) for place in range(10)
    )
    trained = TrainedModel(
        None,
        ("x0",),
        (),
        Evaluation("roc_auc", 10, {"roc_auc": 0.5}, {}, {}),
        references,
        ScoreProfile((), (10,), (0.5,), (0.1,), (0.1,)),
        scores,
        scores,
        np.empty(0),
    )
    return SegmentResult(segment, "fitted", "", trained, pack_model(random.bytes(_MODEL_BYTES)), scores)


def test_what_is_set_aside_comes_back_as_it_was() -> None:
    aside, whole = SetAside(), {segment: result(segment, seed) for seed, segment in enumerate(("a", "b", "all"))}
    light = {segment: aside.keep(found) for segment, found in whole.items()}
    references = aside.references(["b", "a"])
    assert set(references) == {"a", "b"}
    for segment, found in whole.items():
        model, trained = found.model, found.trained
        kept, model_kept = light[segment].trained, light[segment].model
        assert model is not None
        assert trained is not None
        assert kept is not None
        assert model_kept is not None
        assert (model_kept.payload, model_kept.raw_bytes, model_kept.sha256) == (
            model.payload,
            model.raw_bytes,
            model.sha256,
        )
        assert kept.references == ()
        assert kept.evaluation == trained.evaluation
        assert np.array_equal(light[segment].scores, found.scores)
        if segment in references:
            assert references[segment] == trained.references
    pictured = light["all"].trained
    assert pictured is not None
    assert len(pictured.holdout_scores) == 10


def test_a_segment_that_was_not_fitted_stays_as_it_is() -> None:
    small = SegmentResult("a", "too_small", "3 training rows")
    assert SetAside().keep(small) is small


def test_a_hundred_fits_take_less_memory_than_two_models() -> None:
    aside = SetAside()
    aside.keep(result("warm"))
    tracemalloc.start()
    light = [aside.keep(result(f"s{number}", number)) for number in range(100)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(light) == 100
    assert held < 2 * _MODEL_BYTES


def test_a_model_that_lies_in_a_file_travels_as_its_bytes() -> None:
    found = result("a")
    stored = SetAside().keep(found).model
    assert isinstance(stored, StoredModel)
    travelled = pickle.loads(pickle.dumps(stored))
    assert isinstance(travelled, PackedModel)
    assert travelled == found.model


def test_a_bundle_is_streamed_one_model_at_a_time() -> None:
    read: list[int] = []

    class Watched:
        blob = bytes(range(100))
        length = 100

        def read(self, start: int, length: int) -> bytes:
            read.append(start)
            return self.blob[start : start + length]

    models = {f"{place:02}": StoredModel(Watched(), place * 10, 10, 10, "") for place in range(10)}
    pieces = stream_bundle(models)
    next(pieces)
    assert read == []
    for place in range(10):
        assert next(pieces) == bytes(range(place * 10, place * 10 + 10))
        assert len(read) == place + 1
    packed = {name: PackedModel(model.payload, 10, "") for name, model in models.items()}
    assert b"".join(stream_bundle(models)) == b"".join(stream_bundle(packed))


def test_a_cut_file_is_never_bundled() -> None:
    stored = SetAside().keep(result("a")).model
    assert isinstance(stored, StoredModel)
    beyond = replace(stored, start=stored.start + 1)
    with pytest.raises(ValueError, match="packed bytes"):
        b"".join(stream_bundle({"a": beyond}))
