import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PUBLIC_INDEX = "https://pypi.org/simple"
PUBLIC_FILES = "https://files.pythonhosted.org/"
# Below lie versions that load what they should not (mlflow, skops), and above dbt-core one whose parser is no package.
FLOORS = {"mlflow": ">=3.17", "skops": ">=0.13", "dbt-core": ">=1.11.14,<1.12"}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> list[Requirement]:
    project = pyproject()
    optional = project["project"]["optional-dependencies"].values()
    named = [*project["project"]["dependencies"], *(text for group in optional for text in group)]
    grouped = [text for group in project["dependency-groups"].values() for text in group if isinstance(text, str)]
    return [Requirement(text) for text in (*named, *grouped)]


def tracked_files() -> list[str]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a checkout")
    return [name for name in done.stdout.split("\0") if name]


def places_in_lock() -> tuple[set[str], set[str]]:
    """Every index, and every other place, that the lock file takes a package from."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    indexes, others = set(), set()
    for package in lock["package"]:
        source = dict(package["source"])
        indexes.add(source.pop("registry", PUBLIC_INDEX))
        if package["name"] != "factory-assets":
            others |= {f"{kind}: {place}" for kind, place in source.items()}
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        others |= {str(file.get("url", file)) for file in files}
    return indexes, others


def test_the_lock_file_names_only_the_public_index_and_its_files() -> None:
    indexes, others = places_in_lock()
    assert indexes == {PUBLIC_INDEX}
    assert [place for place in sorted(others) if not place.startswith(PUBLIC_FILES)] == []


def test_no_other_address_is_written_anywhere_in_the_lock_file() -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    addresses = re.findall(r"[a-z+]+://[^\s\"']+", text)
    assert {a for a in addresses if a != PUBLIC_INDEX and not a.startswith(PUBLIC_FILES)} == set()


def test_there_is_one_lock_file_and_it_is_of_this_project() -> None:
    tracked = tracked_files()
    assert [name for name in tracked if re.search(r"(\.lock|requirements.*\.txt|poetry\.toml)$", name)] == ["uv.lock"]
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    bounds = pyproject()["project"]["requires-python"].split(",")
    assert lock["requires-python"].replace(" ", "").split(",") == bounds
    own = next(package for package in lock["package"] if package["name"] == "factory-assets")
    assert "editable" in own["source"]


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_known_floors_and_ceilings_hold(name: str) -> None:
    declared = [requirement for requirement in requirements() if requirement.name == name]
    assert declared, name
    for requirement in declared:
        assert set(Requirement(f"{name}{FLOORS[name]}").specifier) <= set(requirement.specifier)


def test_every_dependency_has_a_lower_bound() -> None:
    unbounded = [str(r) for r in requirements() if not any(bound.operator in (">=", "==", "~=") for bound in r.specifier)]
    assert unbounded == []


def test_the_python_versions_are_those_the_readme_promises() -> None:
    assert pyproject()["project"]["requires-python"] == ">=3.11,<3.14"
    assert "Python 3.11 to 3.13" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_is_no_folder_that_dagster_would_take_for_the_package() -> None:
    assert not (ROOT / "src").exists()


def test_only_the_readme_lies_in_the_data_folder() -> None:
    assert [name for name in tracked_files() if name.startswith("data/")] == ["data/README.md"]


def test_what_is_written_by_running_is_not_in_git() -> None:
    written = re.compile(r"(^|/)(target|logs|__pycache__|mlruns)/|\.(duckdb|db|parquet|pkl|bundle|pyc)$")
    assert [name for name in tracked_files() if written.search(name)] == []


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".pre-commit-config.yaml", ".ci/run", "docs"])
def test_every_make_target_that_is_named_exists(page: str) -> None:
    path = ROOT / page
    pages = path.rglob("*.md") if path.is_dir() else [path]
    # In prose a target stands in code quotes or on a line of its own: "make sure" is no target.
    named = {
        target
        for file in pages
        for target in re.findall(
            r"(?:`|^\s*\$?\s*|entry: )make ([a-z][a-z-]*)", file.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert named <= makefile_targets(), page
    assert named or page == "docs"


def test_the_readmes_two_commands_are_named_and_pre_commit_has_no_remote_hook() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in ("demo", "test", "dev", "mlflow", "docs"):
        assert f"make {target}" in readme
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
