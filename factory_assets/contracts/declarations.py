"""From YAML text to a checked spec, or to sentences that say which line is wrong and what to write instead."""

import re
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from factory_assets.contracts.names import suggest
from factory_assets.contracts.yaml_documents import YamlDocument, YamlError, read_documents

ATTRIBUTES = "attributes"
Spec = TypeVar("Spec", bound=BaseModel)
# A sentence on several keys at once begins with the one that is to be changed.
_LEADING_KEY = re.compile(r"[a-z_]+(\.[a-z_]+)*")
# What a person would call what pydantic asks for, by the kind of its error.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "date_from_datetime_parsing": "a day, such as 2026-01-31",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "string_type": "text",
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one file."""

    file: str
    line: int
    key: str
    message: str

    def placed(self, document: YamlDocument) -> "Problem":
        """The same with the line of its key, a dotted path below `attributes`, in the document that it is in."""
        path = tuple(int(part) if part.isdecimal() else part for part in self.key.split("."))
        return replace(self, line=document.line_of((ATTRIBUTES, *path)))

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class DeclarationError(ValueError):
    """A declaration that cannot be used, with everything that is wrong in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def read_declaration(text: str, file: str, document: int, model: type[Spec]) -> Spec:
    """Checks the `attributes` of one document of a defs.yaml against its spec.

    Raises:
        DeclarationError: with file, line, key and remedy of every problem found.
    """
    return check_document(read_document(text, file, document), file, model)


def read_document(text: str, file: str, document: int) -> YamlDocument:
    """One document of a defs.yaml, unchecked.

    Raises:
        DeclarationError: for what is no YAML that is read, or has no keys.
    """
    try:
        documents = read_documents(text)
    except YamlError as error:
        raise DeclarationError([Problem(file, error.line, _without_prefix(error.key), str(error))]) from error
    if document >= len(documents) or not isinstance(documents[document].value, dict):
        raise DeclarationError([Problem(file, 1, "", "expected `type:` and `attributes:`")])
    return documents[document]


def check_document(document: YamlDocument, file: str, model: type[Spec]) -> Spec:
    """As `read_declaration`, for a document that is already parsed."""
    attributes = document.value.get(ATTRIBUTES)
    try:
        return model.model_validate(attributes if attributes is not None else {})
    except ValidationError as error:
        raise DeclarationError([_problem(document, file, model, detail) for detail in error.errors()]) from error


def _problem(document: YamlDocument, file: str, model: type[BaseModel], detail: Any) -> Problem:
    path = tuple(detail["loc"])
    line = document.line_of((ATTRIBUTES, *path))
    key = ".".join(str(part) for part in path)
    kind = detail["type"]
    if kind == "extra_forbidden":
        return Problem(file, line, key, f"unknown key {path[-1]!r}: {suggest(str(path[-1]), _keys_at(model, path[:-1]))}")
    if kind == "missing":
        return Problem(file, line, key, f"the key {path[-1]!r} is missing and has no default: add it")
    if kind in ("tuple_type", "list_type"):
        return Problem(file, line, key, f"expected a list, but the file says {detail['input']!r}: write [{detail['input']}]")
    message = str(detail["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        leading = _LEADING_KEY.match(message)
        below = leading[0].split(".") if leading else []
        return Problem(file, document.line_of((ATTRIBUTES, *path, *below)), key, message)
    expected = _EXPECTED.get(kind) or message.removeprefix("Input should be ")
    if kind in ("model_type", "dict_type"):
        known = _keys_at(model, path)
        expected = f"keys of {', '.join(known)}" if known else "keys with values"
    return Problem(file, line, key, f"expected {expected}, but the file says {detail['input']!r}")


def _keys_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The keys that may stand at `path`, of which positions in lists and names in mappings are passed over."""
    reached: list[type[BaseModel]] = [model]
    for part in path:
        followed = [spec.model_fields[part].annotation for spec in reached if part in spec.model_fields]
        reached = [spec for annotation in followed for spec in _specs_in(annotation)] if followed else reached
    return list(dict.fromkeys(name for spec in reached for name in spec.model_fields))


def _specs_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [spec for part in get_args(annotation) for spec in _specs_in(part)]


def _without_prefix(key: str) -> str:
    return key.removeprefix(f"{ATTRIBUTES}.")
