"""A generated settings file follows the release until a person edits it."""

from pathlib import Path

import pytest
import yaml

from factory_assets.storage.generated_settings import write_generated

OLD = "# Settings.\nruns:\n  most: 2\n  seconds: 5\n"
NEW = "# Settings.\nruns:\n  most: 2\n  seconds: 1\nnux: {enabled: false}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def test_a_missing_file_is_made_and_an_unedited_one_follows_the_release(file: Path) -> None:
    for shipped in (OLD, NEW, NEW, OLD):
        assert write_generated(file, shipped) == ()
        assert file.read_text().endswith(shipped)
        assert yaml.safe_load(file.read_text()) == yaml.safe_load(shipped)
    assert [found.name for found in file.parent.iterdir()] == [file.name]


def test_an_edited_file_is_kept_to_the_byte_and_names_what_differs(file: Path) -> None:
    write_generated(file, OLD)
    edited = file.read_text().replace("most: 2", "most: 7") + "mine: 1\n"
    file.write_text(edited)
    for _ in range(2):
        assert write_generated(file, NEW) == ("mine", "nux", "runs.most", "runs.seconds")
        assert file.read_text() == edited


def test_a_comment_of_ones_own_is_kept_too(file: Path) -> None:
    write_generated(file, OLD)
    file.write_text(file.read_text() + "# why: two cores\n")
    assert write_generated(file, OLD) == ()
    assert file.read_text().endswith("# why: two cores\n")


def test_a_file_without_a_hash_that_says_the_same_is_taken_over(file: Path) -> None:
    file.write_text("runs: {seconds: 5, most: 2}\n")
    assert write_generated(file, OLD) == ()
    assert write_generated(file, NEW) == ()
    assert file.read_text().endswith(NEW)


def test_a_file_without_a_hash_that_says_otherwise_is_a_persons(file: Path) -> None:
    file.write_text(OLD)
    assert write_generated(file, NEW) == ("nux", "runs.seconds")
    assert file.read_text() == OLD


@pytest.mark.parametrize(("text", "said"), [("runs: [", "is not YAML"), ("- runs\n", "expected a mapping, got list")])
def test_an_edited_file_that_is_no_settings_is_named_with_the_remedy(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(ValueError, match=f"{file}.*{said}.*delete it"):
        write_generated(file, NEW)
    assert file.read_text() == text
