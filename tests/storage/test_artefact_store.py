import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory_assets.storage.artefact_store import ArtefactMissingError, ArtefactStore

_PIECE = 1024**2


def test_pieces_are_on_disk_before_the_next_one_is_asked_for(tmp_path: Path) -> None:
    store, sizes = ArtefactStore(tmp_path), []

    def pieces() -> Iterator[bytes]:
        for place in range(4):
            sizes.extend(draft.stat().st_size for draft in tmp_path.rglob("*.draft"))
            yield bytes([place]) * _PIECE

    name, sha256 = store.write("line", pieces())
    assert sizes == [0, _PIECE, 2 * _PIECE, 3 * _PIECE]
    blob = store.path(name).read_bytes()
    assert hashlib.sha256(blob).hexdigest() == sha256
    assert store.write("line", [blob]) == (name, sha256)
    assert [file.name for file in (tmp_path / "line").iterdir()] == [f"{sha256}.bundle"]


def test_what_ends_half_way_leaves_nothing_that_could_be_read(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        ArtefactStore(tmp_path).write("line", pieces())
    assert list((tmp_path / "line").iterdir()) == []


def test_a_file_is_read_by_place(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    name, _ = store.write("line", [b"0123", b"456789"])
    file = store.open(name)
    assert (file.length, file.read(3, 4), file.read(8, 10), file.read(20, 1)) == (10, b"3456", b"89", b"")
    with pytest.raises(ArtefactMissingError, match="is gone"):
        store.open("line/other.bundle")
