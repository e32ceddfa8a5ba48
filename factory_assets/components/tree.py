"""Loads a defs folder entry by entry, so that a file which cannot be read at all harms only itself.

Dagster builds the tree of a defs folder in one go, and one file that is no YAML, names no component, or does not go with
the others takes the code location down. The only module that touches this half-internal part of Dagster; a test holds it to
the pinned version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any

import dagster as dg
from dagster.components.core.component_tree import ComponentTree, ComponentTreeException
from dagster.components.core.context import ComponentDeclLoadContext
from dagster.components.core.decl import (
    ComponentDecl,
    DefsFolderDecl,
    PythonFileDecl,
    build_filesystem_component_decl_from_context,
)
from dagster.components.core.defs_module import (
    EXPLICITLY_IGNORED_GLOB_PATTERNS,
    ComponentFileModel,
    ComponentPath,
    ComponentRootLoc,
    find_defs_or_component_yaml,
)

from factory_assets import components
from factory_assets.components.declared import DeclaredComponent, build_broken_defs, name_shared_names
from factory_assets.contracts.declarations import Problem
from factory_assets.contracts.names import suggest
from factory_assets.contracts.yaml_documents import YamlError, read_documents

_KEYS = tuple(ComponentFileModel.model_fields)
# What definitions are made of; a file that has none of it cannot be in the way of others.
_PARTS = ("assets", "asset_checks", "jobs", "schedules", "sensors", "resources", "executor", "loggers")


@dataclass(frozen=True)
class BrokenEntry:
    """An entry of the defs folder that is not loaded."""

    place: str
    problems: Sequence[Problem]


class TolerantTree(ComponentTree):
    """Dagster's tree without the entries that cannot be read; those are in `unreadable`."""

    unreadable: tuple[BrokenEntry, ...] = ()

    def build_all(self, bound: dg.Definitions) -> dg.Definitions:
        """Definitions of everything sound, with what it is `bound` to, and one red asset for each folder that is not."""
        problems: dict[str, list[Problem]] = {}
        for entry in self.set_broken_aside(bound):
            problems.setdefault(entry.place, []).extend(entry.problems)
        broken = [build_broken_defs(place, found) for place, found in problems.items()]
        return dg.Definitions.merge(self.build_defs(), *broken, bound)

    def set_broken_aside(self, bound: dg.Definitions) -> list[BrokenEntry]:
        """Every entry that is not loaded: it is wrong, defines what is defined already, or nothing loads beside it."""
        return [*self.find_broken(), *self._set_failing_aside(), *self._set_clashing_aside(), *self._set_unfit_aside(bound)]

    def find_broken(self) -> list[BrokenEntry]:
        """Every entry that is wrong: in itself, or beside the others."""
        declared = self.get_all_components(of_type=DeclaredComponent)  # type: ignore[type-abstract]
        name_shared_names(declared)
        found = [BrokenEntry(component.place, component.problems) for component in declared if component.problems]
        return [*self.unreadable, *found]

    def _set_failing_aside(self) -> list[BrokenEntry]:
        """Leaves out each own Python file that is imported and yet gives no definitions, as one that has two of one name."""
        found = []
        for decl in self._own_files():
            try:
                self.build_defs_at_path(decl.loc)
            except ComponentTreeException as error:
                found.append(self._leave_out(decl, f"cannot be loaded: {_say(error.__cause__ or error)}"))
        return found

    def _set_clashing_aside(self) -> list[BrokenEntry]:
        """Leaves out each own Python file that defines what is already defined; Dagster would load nothing beside it."""
        taken: dict[str, tuple[object, str]] = {}
        found = []
        for decl in sorted(_leaves(self._get_filesystem_decl()), key=lambda decl: isinstance(decl, PythonFileDecl)):
            defined = _name_definitions(self.build_defs_at_path(decl.loc))
            # One object that a file imports from another is no other definition.
            clashing = sorted(name for name, what in defined.items() if name in taken and taken[name][0] is not what)
            if not clashing or not isinstance(decl, PythonFileDecl):
                taken |= {name: (what, self._show(decl)) for name, what in defined.items()}
                continue
            told = (f"{name} is defined in {taken[name][1]} already: give it another name" for name in clashing)
            found.append(self._leave_out(decl, *told))
        return found

    def _set_unfit_aside(self, bound: dg.Definitions) -> list[BrokenEntry]:
        """Leaves out each own Python file beside which Dagster loads nothing, as one with a job of missing assets.

        What a file refers to may be defined in another, so those that do not fit are tried again until none more does.
        """
        built = [(decl, self.build_defs_at_path(decl.loc)) for decl in self._own_files()]
        waiting = [(decl, defined) for decl, defined in built if any(getattr(defined, part) for part in _PARTS)]
        if not waiting or self.find_fault(bound) is None:
            return []
        for decl, _ in waiting:
            self._replace_defs(decl, dg.Definitions())
        if self.find_fault(bound) is not None:
            return []  # it is not theirs
        while True:
            unfit: list[tuple[ComponentDecl[Any], dg.Definitions]] = []
            found: list[BrokenEntry] = []
            for decl, defined in waiting:
                self._replace_defs(decl, defined)
                fault = self.find_fault(bound)
                if fault is not None:
                    unfit.append((decl, defined))
                    found.append(self._leave_out(decl, f"nothing can be loaded beside it: {fault}"))
            if len(unfit) in (0, len(waiting)):
                return found
            waiting = unfit

    def find_fault(self, bound: dg.Definitions) -> str | None:
        """What keeps Dagster from loading what there is together; whatever it is, it would take the code location down."""
        try:
            dg.Definitions.validate_loadable(dg.Definitions.merge(self.build_defs(), bound))
        except Exception as error:
            return _say(error)
        return None

    def _own_files(self) -> list[ComponentDecl[Any]]:
        return [decl for decl in _leaves(self._get_filesystem_decl()) if isinstance(decl, PythonFileDecl)]

    def _show(self, decl: ComponentDecl[Any]) -> str:
        return decl.context.path.relative_to(self.project_root).as_posix()

    def _leave_out(self, decl: ComponentDecl[Any], *reasons: str) -> BrokenEntry:
        self._replace_defs(decl, dg.Definitions())
        return BrokenEntry(decl.context.path.stem, [Problem(self._show(decl), 1, "", reason) for reason in reasons])

    def _replace_defs(self, decl: ComponentDecl[Any], definitions: dg.Definitions) -> None:
        """Has the tree go by other definitions of a file; what was built of them before is forgotten."""
        self.state_tracker.set_cache_data(decl.loc, defs=definitions)
        self.state_tracker.set_cache_data(ComponentRootLoc(), defs=None)
        for folder in decl.context.path.parents:
            if folder.is_relative_to(self.defs_module_path):
                self.state_tracker.set_cache_data(ComponentPath.from_path(folder), defs=None)

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


def _leaves(decl: ComponentDecl[Any]) -> Iterator[ComponentDecl[Any]]:
    if not isinstance(decl, DefsFolderDecl):
        yield decl
        return
    for child in decl.iterate_child_component_decls():
        yield from _leaves(child)


def _name_definitions(definitions: dg.Definitions) -> dict[str, object]:
    """What is defined, by what no second definition of a code location may be called."""
    named: dict[str, object] = {}
    for asset in definitions.assets or ():
        # A source asset may stand beside what it refers to.
        if isinstance(asset, dg.AssetsDefinition | dg.AssetSpec):
            keys = asset.keys if isinstance(asset, dg.AssetsDefinition) else [asset.key]
            named |= {f"asset {key.to_user_string()}": asset for key in keys}
    for check in definitions.asset_checks or ():
        named |= {f"check {key.asset_key.to_user_string()}:{key.name}": check for key in check.check_keys}
    named |= {f"job {job.name}": job for job in definitions.jobs or ()}
    ticking = (*(definitions.schedules or ()), *(definitions.sensors or ()))
    return named | {f"schedule or sensor {one.name}": one for one in ticking}


def _say(error: BaseException) -> str:
    """In one line, with the error that it came from."""
    words = " ".join(str(error).split()).rstrip(".").removeprefix("Invariant failed. Description: ")
    return words if error.__cause__ is None else f"{words}: {_say(error.__cause__)}"


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
        reason = _say(error)
        if "`" + components.__name__.partition(".")[0] in reason or reason.startswith("No components found"):
            reason += f": write one of {', '.join(components.__all__)} after `type: {components.__name__}.`"
        return Problem(shown, 1, "", f"cannot be loaded: {reason}")
    reached = [frame.lineno for frame in extract_tb(error.__traceback__) if Path(frame.filename) == file]
    line = error.lineno if isinstance(error, SyntaxError) else reached[-1] if reached else None
    return Problem(shown, line or 1, "", f"cannot be loaded: {type(error).__name__}: {error}")
