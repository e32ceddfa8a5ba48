"""Models as bytes: one file for each fleet version, and nothing deserialised that the factory did not write itself.

Layout of a file: 8 bytes of magic, 8 bytes length of the index (big-endian), the index as JSON, then the payloads,
each compressed by zlib. The index maps a segment to [offset, packed bytes, raw bytes], offsets from the first payload.
"""

import hashlib
import json
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAGIC = b"FLEETv1\n"
MAX_INDEX_BYTES = 64 * 1024**2
MAX_MODEL_BYTES = 2 * 1024**3
_HEADER_BYTES = len(MAGIC) + 8
_LEVEL = 6


class CorruptArtefactError(ValueError):
    """The bytes are not a fleet file, or one that was cut or altered."""


class UntrustedArtefactError(ValueError):
    """The hash of the bytes is not the one recorded at training: they are not deserialised."""


@dataclass(frozen=True)
class IndexEntry:
    """Where one segment's payload lies: from the first payload on, compressed and raw length in bytes."""

    offset: int
    packed_bytes: int
    raw_bytes: int


def pack_models(models: Mapping[str, bytes]) -> bytes:
    """One file of all segments; the same models give the same bytes, whatever their order.

    >>> unpack_model(pack_models({"JFK": b"one", "LGA": b"two"}), "LGA")
    b'two'

    Raises:
        ValueError: for a model above MAX_MODEL_BYTES, which could not be read again.
    """
    index: dict[str, list[int]] = {}
    payloads: list[bytes] = []
    offset = 0
    for segment in sorted(models):
        if len(models[segment]) > MAX_MODEL_BYTES:
            raise ValueError(f"segment {segment!r}: {len(models[segment])} bytes, above the cap of {MAX_MODEL_BYTES}")
        payload = zlib.compress(models[segment], _LEVEL)
        index[segment] = [offset, len(payload), len(models[segment])]
        payloads.append(payload)
        offset += len(payload)
    head = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    return b"".join([MAGIC, len(head).to_bytes(8, "big"), head, *payloads])


def read_index(blob: bytes) -> dict[str, IndexEntry]:
    """The index of a fleet file, each entry checked to lie inside it and below the caps.

    Raises:
        CorruptArtefactError: for any other bytes; nothing is allocated by what they claim.
    """
    head = blob[_HEADER_BYTES : _payload_start(blob)]
    try:
        pairs = json.loads(head, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise CorruptArtefactError(f"the index is not JSON: {error}") from error
    payload_bytes = len(blob) - _payload_start(blob)
    index = {segment: _check_entry(segment, place, payload_bytes) for segment, place in _check_pairs(pairs)}
    if len(index) != len(pairs):
        raise CorruptArtefactError("the index names a segment twice")
    return index


def unpack_model(blob: bytes, segment: str) -> bytes:
    """The raw bytes of one segment's model.

    Raises:
        KeyError: for a segment that the file does not hold.
        CorruptArtefactError: when the file, or the payload, is not what `pack_models` wrote.
    """
    index = read_index(blob)
    if segment not in index:
        raise KeyError(f"no segment {segment!r} in this fleet file of {len(index)}")
    entry = index[segment]
    start = _payload_start(blob) + entry.offset
    reader = zlib.decompressobj()
    try:
        # One byte more than promised tells a longer stream, without ever inflating the rest of it.
        raw = reader.decompress(blob[start : start + entry.packed_bytes], entry.raw_bytes + 1)
    except zlib.error as error:
        raise CorruptArtefactError(f"segment {segment!r}: {error}") from error
    if len(raw) != entry.raw_bytes or not reader.eof or reader.unused_data:
        raise CorruptArtefactError(f"segment {segment!r} is not {entry.raw_bytes} bytes long, as its index says")
    return raw


def digest(blob: bytes) -> str:
    """SHA-256 in hexadecimal, the name under which the factory trusts an artefact."""
    return hashlib.sha256(blob).hexdigest()


def pickle_model(model: Any) -> bytes:
    """A fitted model as bytes; the same training gives the same bytes."""
    return pickle.dumps(model, protocol=5)


def unpickle_model(blob: bytes, expected_sha256: str) -> Any:
    """The model, if and only if the bytes are those that were hashed at training; a pickle can run any code.

    Raises:
        UntrustedArtefactError: when the hash differs; the bytes are then not looked at.
    """
    found = digest(blob)
    if found != expected_sha256:
        raise UntrustedArtefactError(
            f"the artefact has SHA-256 {found} and {expected_sha256!r} was recorded at training: it was altered or"
            " belongs to another model, so it is not loaded; restore it, or retrain the line"
        )
    return pickle.loads(blob)  # noqa: S301 (only what the factory itself pickled comes this far)


def _payload_start(blob: bytes) -> int:
    if blob[: len(MAGIC)] != MAGIC or len(blob) < _HEADER_BYTES:
        raise CorruptArtefactError("not a fleet file: it does not start with its magic and the length of its index")
    index_bytes = int.from_bytes(blob[len(MAGIC) : _HEADER_BYTES], "big")
    if index_bytes > min(MAX_INDEX_BYTES, len(blob) - _HEADER_BYTES):
        raise CorruptArtefactError(f"an index of {index_bytes} bytes does not fit a file of {len(blob)}")
    return _HEADER_BYTES + index_bytes


def _check_pairs(pairs: Any) -> tuple[tuple[str, Any], ...]:
    """Objects were read as tuples of pairs, so that a name that comes twice is seen; JSON arrays are lists."""
    if not isinstance(pairs, tuple):
        raise CorruptArtefactError("the index is not a JSON object")
    return pairs


def _check_entry(segment: str, place: Any, payload_bytes: int) -> IndexEntry:
    whole = isinstance(place, list) and len(place) == 3 and all(type(number) is int for number in place)
    if not whole or min(place) < 0 or place[0] + place[1] > payload_bytes or place[2] > MAX_MODEL_BYTES:
        raise CorruptArtefactError(f"the index places segment {segment!r} outside the file or above the cap")
    return IndexEntry(*place)
