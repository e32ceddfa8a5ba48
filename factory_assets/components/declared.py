"""What every component of the factory shares: its declaration is checked strictly, and a wrong one harms only itself.

Dagster's own YAML reading lets a duplicate key win, and one wrong file takes the whole code location down. So the file is
read again here, with its lines; what is wrong becomes one visible broken asset, and everything else still loads.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Generic, Self, TypeVar

import dagster as dg
from dagster.components.core.defs_module import ComponentPath, find_defs_or_component_yaml
from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, create_model, model_validator

from factory_assets.components.naming import BROKEN_GROUP, broken_key
from factory_assets.contracts.declarations import DeclarationError, Problem, check_document, read_document
from factory_assets.contracts.yaml_documents import YamlDocument

Spec = TypeVar("Spec", bound=BaseModel)


class DeclaredComponent(dg.Component, Generic[Spec]):
    """A component whose attributes are one spec of `contracts`."""

    spec_model: ClassVar[type[BaseModel]]

    def __init__(self, spec: Spec | None, file: str, problems: list[Problem], written: YamlDocument | None = None) -> None:
        self.declared = spec
        self.file = file
        self.problems = problems
        self.written = written

    @property
    def place(self) -> str:
        """The folder that the declaration lies in."""
        return PurePosixPath(self.file).parent.name

    @property
    def name(self) -> str:
        """What no other declaration of its kind may be called; empty for a kind of which there is one."""
        return str(getattr(self.declared, "name", ""))

    @property
    def spec(self) -> Spec:
        """The checked spec.

        Raises:
            DeclarationError: when the declaration is broken.
        """
        if self.declared is None:
            raise DeclarationError(self.problems)
        return self.declared

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The spec as a schema for editors and `dg check yaml`, which at load lets `load` do the judging."""
        return _tolerant(cls.spec_model)

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Reads the declaration again from its file, strictly."""
        path, document = _find_file(context)
        shown = _shown_path(path, context)
        try:
            written = read_document(path.read_text(encoding="utf-8"), shown, document)
            spec: Any = check_document(written, shown, cls.spec_model)
        except DeclarationError as error:
            return cls(None, shown, error.problems)
        problems = cls.find_problems(spec, shown, context)
        return cls(spec, shown, [problem.placed(written) for problem in problems], written)

    @classmethod
    def find_problems(cls, spec: Any, file: str, context: dg.ComponentLoadContext) -> list[Problem]:
        """What the spec alone cannot know, such as a feature set that does not exist; `load` finds the lines of the keys."""
        return []

    def monitored_checks(self) -> list[dg.AssetCheckKey]:
        """Checks that the monitor job runs, and not the job that makes the asset; model lines have a tag instead."""
        return []

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of a sound declaration; what is wrong with another one is shown by the tree that it is part of."""
        return dg.Definitions() if self.problems else self.build_sound_defs(context)

    @abstractmethod
    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions, given that `spec` is sound."""


def name_shared_names(declared: Sequence[DeclaredComponent[Any]]) -> None:
    """Dagster loads nothing where two assets or jobs share a name. So of those that do, all but one are broken.

    The one is that whose folder is called so, for a copied folder is called otherwise; failing that, the first by path.
    """
    keepers: dict[tuple[type[DeclaredComponent[Any]], str], DeclaredComponent[Any]] = {}
    sound = [component for component in declared if not component.problems]
    for component in sorted(sound, key=lambda component: component.place != component.name):
        keeper = keepers.setdefault((type(component), component.name), component)
        if keeper is component or component.written is None:
            continue
        kind, where = type(component).__name__, f"is declared in {keeper.file}"
        told = f"{component.name!r} {where}: give it another name" if component.name else f"the one {kind} {where}: keep one"
        problem = Problem(component.file, 1, "name" if component.name else "", told)
        component.problems.append(problem.placed(component.written))


def build_broken_defs(place: str, problems: list[Problem]) -> dg.Definitions:
    """One red asset in the group `broken`, whose check says file, line, key and remedy."""
    message = "\n".join(str(problem) for problem in problems)
    dg.get_dagster_logger().error("a declaration is not loaded:\n%s", message)
    key = broken_key(place)
    listed = "\n".join(f"- `{problem}`" for problem in problems)

    @dg.asset_check(asset=key, name="declaration_is_sound", description="Whether the declaration can be used.")
    def declaration_is_sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=message, metadata={"problems": dg.MetadataValue.md(listed)})

    spec = dg.AssetSpec(
        key,
        group_name=BROKEN_GROUP,
        kinds={"broken"},
        description=f"This declaration is not loaded until it is mended:\n\n{listed}",
        metadata={"problems": dg.MetadataValue.md(listed)},
    )
    return dg.Definitions(assets=[spec], asset_checks=[declaration_is_sound])


def _tolerant(model: type[BaseModel]) -> type[BaseModel]:
    def accept(cls: Any, value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            return cls.model_construct()

    validators: dict[str, Any] = {"accept": model_validator(mode="wrap")(classmethod(accept))}  # type: ignore[arg-type]
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __validators__=validators)


def _find_file(context: dg.ComponentLoadContext) -> tuple[Path, int]:
    path = find_defs_or_component_yaml(context.path)
    if path is None:
        raise FileNotFoundError(f"no defs.yaml in {context.path}")
    location = context.component_path
    document = location.instance_key if isinstance(location, ComponentPath) else 0
    return path, int(document or 0)


def _shown_path(path: Path, context: dg.ComponentLoadContext) -> str:
    try:
        return path.relative_to(context.project_root).as_posix()
    except ValueError:
        return str(path)
