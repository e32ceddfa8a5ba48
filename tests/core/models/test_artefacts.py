import json
import pickle
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.core.models import artefacts
from factory_assets.core.models.artefacts import (
    MAGIC,
    Bundle,
    CorruptArtefactError,
    UntrustedArtefactError,
    digest,
    pickle_model,
    read_index,
    unpickle_model,
)
from tests.recorded import bundle

MODELS = {"JFK/LAX": b"model one" * 100, "": b"", "Zürich": bytes(range(256))}


def _file(index, payload=b""):
    head = index if isinstance(index, bytes) else json.dumps(index).encode()
    return MAGIC + len(head).to_bytes(8, "big") + head + payload


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=50), max_size=6))
def test_every_segment_comes_back_as_it_was(models):
    blob = bundle(models)
    assert set(read_index(blob)) == set(models)
    assert {segment: Bundle(blob).raw(segment) for segment in models} == models


def test_the_same_models_give_the_same_bytes_in_any_order():
    assert bundle(MODELS) == bundle(dict(reversed(MODELS.items())))


def test_an_unknown_segment_is_a_key_error():
    with pytest.raises(KeyError, match="'SFO'"):
        Bundle(bundle(MODELS)).raw("SFO")


def test_a_model_too_large_to_be_read_again_is_not_written(monkeypatch):
    monkeypatch.setattr(artefacts, "MAX_MODEL_BYTES", 10)
    with pytest.raises(ValueError, match="above the cap of 10"):
        bundle({"JFK": b"eleven byte"})


def test_every_cut_and_every_flipped_byte_is_an_error_or_harmless():
    blob = bundle({"JFK": b"model one" * 20, "LGA": b"model two" * 20})
    for place in range(len(blob)):
        for altered in (blob[:place], blob[:place] + bytes([blob[place] ^ 0x55]) + blob[place + 1 :]):
            try:
                found = Bundle(altered).raw("LGA")
            except (CorruptArtefactError, KeyError):
                continue
            assert found == b"model two" * 20


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_the_typed_error(noise):
    for blob in (noise, MAGIC + noise, _file(noise)):
        try:
            index = read_index(blob)
        except CorruptArtefactError:
            continue
        assert index == {}


@pytest.mark.parametrize(
    "index",
    [
        [],
        [["a", [0, 1, 1]]],
        7,
        None,
        {"a": 1},
        {"a": [0, 1]},
        {"a": [0, 1, "9"]},
        {"a": [0, True, 1]},
        {"a": [0.0, 1, 1]},
        {"a": [-1, 2, 1]},
        {"a": [0, 10**30, 1]},
        {"a": [0, 1, 10**30]},
        {"a": [5, 5, 5]},
        {"a": {"offset": 0}},
        b'{"a":[0,1,1],"a":[0,1,1]}',
        b'{"a":[0,1,' + b"9" * 5000 + b"]}",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda index: repr(index)[:30],
)
def test_a_hostile_index_is_refused(index):
    with pytest.raises(CorruptArtefactError):
        read_index(_file(index, b"12345678"))


def test_a_claimed_index_longer_than_the_file_is_refused():
    with pytest.raises(CorruptArtefactError, match="does not fit"):
        read_index(MAGIC + (2**63).to_bytes(8, "big") + b"{}")


def test_a_bomb_is_not_inflated_beyond_what_its_index_says():
    bomb = zlib.compress(bytes(50_000_000), 9)
    blob = _file({"a": [0, len(bomb), 10]}, bomb)
    tracemalloc.start()
    with pytest.raises(CorruptArtefactError, match="is not 10 bytes long"):
        Bundle(blob).raw("a")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_payload_without_its_checksum_is_refused():
    payload = zlib.compress(b"model")[:-4]
    with pytest.raises(CorruptArtefactError):
        Bundle(_file({"a": [0, len(payload), 5]}, payload)).raw("a")


def test_a_payload_with_something_behind_it_is_refused():
    payload = zlib.compress(b"model") + b"more"
    with pytest.raises(CorruptArtefactError):
        Bundle(_file({"a": [0, len(payload), 5]}, payload)).raw("a")


def test_a_model_with_its_own_hash_is_loaded():
    blob = pickle_model({"coef": [1.0, 2.0]})
    assert unpickle_model(blob, digest(blob)) == {"coef": [1.0, 2.0]}


class Trap:
    """Leaves a mark when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


@pytest.mark.parametrize("expected", ["", "0" * 64, digest(b"another").upper()])
def test_bytes_with_another_hash_are_never_deserialised(expected):
    with pytest.raises(UntrustedArtefactError, match="altered"):
        unpickle_model(pickle.dumps(Trap()), expected)
    assert not Trap.sprung


def test_the_digest_is_sha_256():
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
