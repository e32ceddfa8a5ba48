"""Models as bytes: one file for each fleet version, and nothing deserialised that the factory did not write itself.

Layout of a file: 8 bytes of magic, 8 bytes length of the index (big-endian), the index as JSON, then the payloads,
each compressed by zlib. The index maps a name to [offset, packed bytes, raw bytes], offsets from the first payload. The
factory names a model by the SHA-256 of its raw bytes, so a model that did not change is the same bytes in every file.
"""

import hashlib
import json
import pickle
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

MAGIC = b"FLEETv1\n"
MAX_INDEX_BYTES = 64 * 1024**2
MAX_MODEL_BYTES = 2 * 1024**3
_HEADER_BYTES = len(MAGIC) + 8
# A third of the time of zlib's default, for a tenth more bytes.
_LEVEL = 1


class CorruptArtefactError(ValueError):
    """The bytes are not a fleet file, or one that was cut or altered."""


class UntrustedArtefactError(ValueError):
    """The hash of the bytes is not the one recorded at training: they are not deserialised."""


@dataclass(frozen=True)
class IndexEntry:
    """Where one payload lies: from the first payload on, compressed and raw length in bytes."""

    offset: int
    packed_bytes: int
    raw_bytes: int


class BytesByPlace(Protocol):
    """Bytes that are read by their place, so that no more of them is in memory than is looked at."""

    @property
    def length(self) -> int:
        """All bytes."""

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on; fewer where the file ends."""


@dataclass(frozen=True)
class PackedModel:
    """A model as it lies in a file: compressed bytes, and length and SHA-256 of the raw ones."""

    payload: bytes
    raw_bytes: int
    sha256: str

    @property
    def packed_bytes(self) -> int:
        """Length of the compressed bytes."""
        return len(self.payload)


@dataclass(frozen=True)
class StoredModel:
    """A packed model of which memory holds the place alone: its bytes are read each time they are asked for."""

    file: BytesByPlace
    start: int
    packed_bytes: int
    raw_bytes: int
    sha256: str

    @property
    def payload(self) -> bytes:
        """The compressed bytes; fewer than promised where the file was cut."""
        return self.file.read(self.start, self.packed_bytes)

    def __reduce__(self) -> tuple[type[PackedModel], tuple[bytes, int, str]]:
        """It travels as its bytes: the file is not where it goes."""
        return PackedModel, (self.payload, self.raw_bytes, self.sha256)


AnyModel = PackedModel | StoredModel


def pack_model(raw: bytes) -> PackedModel:
    """Compresses one model.

    Raises:
        ValueError: for a model above MAX_MODEL_BYTES, which could not be read again.
    """
    if len(raw) > MAX_MODEL_BYTES:
        raise ValueError(f"a model of {len(raw)} bytes is above the cap of {MAX_MODEL_BYTES}")
    return PackedModel(zlib.compress(raw, _LEVEL), len(raw), digest(raw))


def stream_bundle(models: Mapping[str, AnyModel]) -> Iterator[bytes]:
    """One file of packed models, those of an older file included: its index, and then one model at a time.

    The same models give the same bytes, in any order.

    >>> Bundle(b"".join(stream_bundle({"JFK": pack_model(b"one"), "LGA": pack_model(b"two")}))).raw("LGA")
    b'two'
    """
    index: dict[str, list[int]] = {}
    offset = 0
    for name in sorted(models):
        index[name] = [offset, models[name].packed_bytes, models[name].raw_bytes]
        offset += models[name].packed_bytes
    head = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    yield MAGIC + len(head).to_bytes(8, "big") + head
    for name in sorted(models):
        payload = models[name].payload
        if len(payload) != models[name].packed_bytes:
            raise CorruptArtefactError(f"model {name!r} has {len(payload)} of its {models[name].packed_bytes} packed bytes")
        yield payload


def read_index(blob: bytes | BytesByPlace) -> dict[str, IndexEntry]:
    """The index of a fleet file, each entry checked to lie inside it and below the caps.

    Raises:
        CorruptArtefactError: for any other bytes; nothing is allocated by what they claim.
    """
    file = _as_file(blob)
    start = _payload_start(file)
    head = file.read(_HEADER_BYTES, start - _HEADER_BYTES)
    try:
        pairs = json.loads(head, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise CorruptArtefactError(f"the index is not JSON: {error}") from error
    payload_bytes = file.length - start
    index = {name: _check_entry(name, place, payload_bytes) for name, place in _check_pairs(pairs)}
    if len(index) != len(pairs):
        raise CorruptArtefactError("the index names a model twice")
    return index


class Bundle:
    """A fleet file whose index was read once, for many models; of a file on disk memory holds the index alone."""

    def __init__(self, blob: bytes | BytesByPlace) -> None:
        """Reads the index.

        Raises:
            CorruptArtefactError: for bytes that `stream_bundle` did not write.
        """
        self._file = _as_file(blob)
        self._index = read_index(self._file)
        self._start = _payload_start(self._file)

    def __contains__(self, name: str) -> bool:
        """Whether the file holds a model of this name."""
        return name in self._index

    def packed(self, name: str, sha256: str) -> StoredModel:
        """One model as it lies in the file, for another file; `sha256` is what was recorded, and is not checked here.

        Raises:
            KeyError: for a name that the file does not hold.
        """
        entry = self._entry(name)
        return StoredModel(self._file, self._start + entry.offset, entry.packed_bytes, entry.raw_bytes, sha256)

    def raw(self, name: str) -> bytes:
        """The raw bytes of one model.

        Raises:
            KeyError: for a name that the file does not hold.
            CorruptArtefactError: when the payload is not what was packed.
        """
        return unpack_payload(self.packed(name, ""), name)

    def _entry(self, name: str) -> IndexEntry:
        if name not in self._index:
            raise KeyError(f"no model {name!r} in this fleet file of {len(self._index)}")
        return self._index[name]


def unpack_payload(packed: AnyModel, name: str) -> bytes:
    """The raw bytes of a packed model.

    Raises:
        CorruptArtefactError: when they are not a whole zlib stream of the length that was promised.
    """
    reader = zlib.decompressobj()
    try:
        # One byte more than promised tells a longer stream, without ever inflating the rest of it.
        raw = reader.decompress(packed.payload, packed.raw_bytes + 1)
    except zlib.error as error:
        raise CorruptArtefactError(f"model {name!r}: {error}") from error
    if len(raw) != packed.raw_bytes or not reader.eof or reader.unused_data:
        raise CorruptArtefactError(f"model {name!r} is not {packed.raw_bytes} bytes long, as its index says")
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


@dataclass(frozen=True)
class _InMemory:
    """Bytes as a file."""

    blob: bytes

    @property
    def length(self) -> int:
        return len(self.blob)

    def read(self, start: int, length: int) -> bytes:
        return self.blob[start : start + length]


def _as_file(blob: bytes | BytesByPlace) -> BytesByPlace:
    return _InMemory(blob) if isinstance(blob, bytes) else blob


def _payload_start(file: BytesByPlace) -> int:
    header = file.read(0, _HEADER_BYTES)
    if header[: len(MAGIC)] != MAGIC or len(header) < _HEADER_BYTES:
        raise CorruptArtefactError("not a fleet file: it does not start with its magic and the length of its index")
    index_bytes = int.from_bytes(header[len(MAGIC) :], "big")
    if index_bytes > min(MAX_INDEX_BYTES, file.length - _HEADER_BYTES):
        raise CorruptArtefactError(f"an index of {index_bytes} bytes does not fit a file of {file.length}")
    return _HEADER_BYTES + index_bytes


def _check_pairs(pairs: Any) -> tuple[tuple[str, Any], ...]:
    """Objects were read as tuples of pairs, so that a name that comes twice is seen; JSON arrays are lists."""
    if not isinstance(pairs, tuple):
        raise CorruptArtefactError("the index is not a JSON object")
    return pairs


def _check_entry(name: str, place: Any, payload_bytes: int) -> IndexEntry:
    whole = isinstance(place, list) and len(place) == 3 and all(type(number) is int for number in place)
    if not whole or min(place) < 0 or place[0] + place[1] > payload_bytes or place[2] > MAX_MODEL_BYTES:
        raise CorruptArtefactError(f"the index places model {name!r} outside the file or above the cap")
    return IndexEntry(*place)
