"""Loads a defs folder entry by entry, so that a file which cannot be read at all harms only itself.

Dagster builds the tree of a defs folder in one go, and one file that is no YAML, or names no component, takes the code
location down. The only module that touches this half-internal part of Dagster; a test holds it to the pinned version.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any

import dagster as dg
from dagster.components.core.component_tree import ComponentTree
from dagster.components.core.context import ComponentDeclLoadContext
from dagster.components.core.decl import (
    ComponentDecl,
    DefsFolderDecl,
    build_filesystem_component_decl_from_context,
)
from dagster.components.core.defs_module import (
    EXPLICITLY_IGNORED_GLOB_PATTERNS,
    ComponentFileModel,
    ComponentPath,
    find_defs_or_component_yaml,
)

from factory_assets import components
from factory_assets.components.declared import DeclaredComponent, build_broken_defs, name_shared_names
from factory_assets.contracts.declarations import Problem
from factory_assets.contracts.names import suggest
from factory_assets.contracts.yaml_documents import YamlError, read_documents

_KEYS = tuple(ComponentFileModel.model_fields)


@dataclass(frozen=True)
class BrokenEntry:
    """An entry of the defs folder that is not loaded."""

    place: str
    problems: Sequence[Problem]


class TolerantTree(ComponentTree):
    """Dagster's tree without the entries that cannot be read; those are in `unreadable`."""

    unreadable: tuple[BrokenEntry, ...] = ()

    def build_all(self) -> dg.Definitions:
        """Definitions of everything sound, and one red asset for each folder in which something is not."""
        problems: dict[str, list[Problem]] = {}
        for entry in self.find_broken():
            problems.setdefault(entry.place, []).extend(entry.problems)
        broken = [build_broken_defs(place, found) for place, found in problems.items()]
        return dg.Definitions.merge(self.build_defs(), *broken)

    def find_broken(self) -> list[BrokenEntry]:
        """Every entry that is wrong: in itself, or beside the others."""
        declared = self.get_all_components(of_type=DeclaredComponent)  # type: ignore[type-abstract]
        name_shared_names(declared)
        found = [BrokenEntry(component.place, component.problems) for component in declared if component.problems]
        return [*self.unreadable, *found]

    def _get_filesystem_decl(self) -> ComponentDecl[Any]:
        location = ComponentPath.from_path(self.defs_module_path)
        known = self.state_tracker.get_cache_data(location).component_decl
        if known is not None:
            return known
        found: list[BrokenEntry] = []
        context = self.decl_load_context.for_component_loc(location)
        folder = _read_folder(context, self.project_root, found)
        object.__setattr__(self, "unreadable", tuple(found))
        self.state_tracker.set_cache_data(location, component_decl=folder)
        return folder


def _read_folder(context: ComponentDeclLoadContext, root: Path, found: list[BrokenEntry]) -> DefsFolderDecl:
    children: dict[Path, ComponentDecl[Any]] = {}
    for entry in sorted(context.path.iterdir()):
        if any(Path(entry.name).match(pattern) for pattern in EXPLICITLY_IGNORED_GLOB_PATTERNS):
            continue
        child_context = context.for_component_loc(ComponentPath.from_path(entry))
        declared = find_defs_or_component_yaml(entry) if entry.is_dir() else None
        if entry.is_dir() and declared is None:
            children[entry] = _read_folder(child_context, root, found)
            continue
        try:
            child = build_filesystem_component_decl_from_context(child_context)
        except Exception as error:  # whatever is wrong with one entry must not reach the others
            found.append(BrokenEntry(entry.stem, [_describe(declared or entry, root, error)]))
            continue
        if child is not None:
            children[entry] = child
    return DefsFolderDecl(
        context=context,
        loc=ComponentPath.from_path(context.path),
        children=children,
        source_tree=None,
        component_file_model=None,
    )


def _describe(file: Path, root: Path, error: Exception) -> Problem:
    shown = file.relative_to(root).as_posix()
    if file.suffix in (".yaml", ".yml"):
        try:
            documents = read_documents(file.read_text(encoding="utf-8"))
        except YamlError as bad:
            return Problem(shown, bad.line, bad.key, str(bad))
        for document in documents:
            for key in document.value if isinstance(document.value, dict) else ():
                if key not in _KEYS:
                    return Problem(shown, document.line_of((key,)), key, f"unknown key {key!r}: {suggest(key, _KEYS)}")
        reason = " ".join(str(error).split()).rstrip(".").removeprefix("Invariant failed. Description: ")
        if "`" + components.__name__.partition(".")[0] in reason or reason.startswith("No components found"):
            reason += f": write one of {', '.join(components.__all__)} after `type: {components.__name__}.`"
        return Problem(shown, 1, "", f"cannot be loaded: {reason}")
    reached = [frame.lineno for frame in extract_tb(error.__traceback__) if Path(frame.filename) == file]
    line = error.lineno if isinstance(error, SyntaxError) else reached[-1] if reached else None
    return Problem(shown, line or 1, "", f"cannot be loaded: {type(error).__name__}: {error}")
