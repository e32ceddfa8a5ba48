import re
from pathlib import Path

import pytest

from factory_assets.lines import training_code
from factory_assets.lines.training_code import fingerprint_estimator_sources, fingerprint_training_code, read_meaning


def test_a_comment_or_a_docstring_is_no_other_training_and_a_number_is() -> None:
    source = 'def fit(x):\n    """Fits."""\n    return x + 1\n'
    assert read_meaning(source) == read_meaning("def fit(x):\n    # as ever\n    return x + 1\n")
    assert read_meaning(source) != read_meaning(source.replace("1", "2"))


def test_a_change_of_any_module_of_the_training_is_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_code, "_CORE", tmp_path)
    names = ("training/fit.py", "training/anything.py", "models/estimators.py", "metrics.py")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("rate = 1\n")
    seen = {fingerprint_training_code.__wrapped__()}
    for name in names:
        (tmp_path / name).write_text("rate = 2\n")
        seen.add(fingerprint_training_code.__wrapped__())
    assert len(seen) == 1 + len(names)
    (tmp_path / "training" / "notes.txt").write_text("of no meaning")
    assert fingerprint_training_code.__wrapped__() in seen


def test_every_module_that_is_named_is_there() -> None:
    assert all(list(training_code._CORE.glob(pattern)) for pattern in training_code._TRAINING)


def test_what_the_modules_of_a_fit_import_of_their_own_room_is_part_of_the_training_too() -> None:
    named = {file for pattern in training_code._TRAINING for file in training_code._CORE.glob(pattern)}
    models = [file for file in named if file.parent.name == "models"]
    imported = {
        name for file in models for name in re.findall(r"from factory_assets\.core\.models\.(\w+)", file.read_text())
    }
    assert imported
    assert imported <= {file.stem for file in models}


def test_a_loose_module_and_a_loose_package_are_known_by_their_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loose_package" / "parts").mkdir(parents=True)
    files = {"loose_module.Croston": "loose_module.py", "loose_package.Croston": "loose_package/parts/rates.py"}
    (tmp_path / "loose_package" / "__init__.py").write_text("")
    for estimator, name in files.items():
        (tmp_path / name).write_text("rate = 1\n")
        before = fingerprint_estimator_sources.__wrapped__(estimator)
        (tmp_path / name).write_text("rate = 2\n")
        assert before
        assert fingerprint_estimator_sources.__wrapped__(estimator) != before


def test_a_package_that_is_installed_for_editing_is_known_by_its_sources_and_others_by_their_version() -> None:
    # This very package is installed so where it is developed.
    assert fingerprint_estimator_sources("factory_assets.core.anything")
    assert fingerprint_estimator_sources("sklearn.linear_model.Ridge") == ""
    assert fingerprint_estimator_sources("no_such_package.Model") == ""
