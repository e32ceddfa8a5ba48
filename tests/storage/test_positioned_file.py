import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs

from factory_assets.storage.delta.positioned_file import PositionedFile

CONTENT = np.arange(200_000, dtype="<u4").tobytes()


@pytest.fixture
def file(tmp_path: Path) -> PositionedFile:
    (tmp_path / "numbers").write_bytes(CONTENT)
    return PositionedFile(fs.LocalFileSystem().open_input_file(str(tmp_path / "numbers")))


def test_it_reads_as_a_file_does(file: PositionedFile) -> None:
    assert file.size == len(CONTENT)
    assert (file.read(8), file.tell()) == (CONTENT[:8], 8)
    assert file.seek(-4, os.SEEK_END) == len(CONTENT) - 4
    assert file.read() == CONTENT[-4:]
    assert file.read(10) == b""
    file.seek(4)
    file.seek(4, os.SEEK_CUR)
    assert file.read(4) == CONTENT[8:12]
    assert file.readable()
    assert file.seekable()
    file.close()
    assert file.closed


def test_no_thread_moves_anothers_position(file: PositionedFile) -> None:
    wrong: list[int] = []

    def read_own_places(seed: int) -> None:
        for place in np.random.default_rng(seed).integers(0, len(CONTENT) - 64, size=3_000).tolist():
            file.seek(place)
            if file.read(64) != CONTENT[place : place + 64]:
                wrong.append(place)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read_own_places, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
