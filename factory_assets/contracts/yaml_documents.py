"""Reads YAML as a person means it: every value keeps its line, and what YAML would silently change is refused.

Plain YAML lets a duplicate key win without a word, reads NO as false and 12:30 as 750, and lets a few hundred bytes of
aliases expand to gigabytes. Here duplicates, aliases and tags are errors, and only true, false, null, numbers and ISO
dates are anything but text.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import yaml

MAX_CHARACTERS = 200_000
_CORE_TAGS = "tag:yaml.org,2002:"
_BOOLEANS = {"true": True, "false": False}
_NULLS = {"", "~", "null"}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class YamlError(ValueError):
    """The text cannot be taken at its word; `line` counts from 1, `key` is the dotted path, '' at the top."""

    def __init__(self, line: int, key: str, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.key = key


@dataclass(frozen=True)
class YamlDocument:
    """One document: its plain value, and the line of every key path (tuple of keys and list positions)."""

    value: Any
    lines: dict[tuple[str | int, ...], int]

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """The line of `path`, or of its nearest parent that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_documents(text: str) -> list[YamlDocument]:
    """Parses every document of `text`.

    Raises:
        YamlError: for bad syntax, duplicate keys, aliases, tags, and texts that are too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(1, "", f"the file has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise YamlError(line, "", "anchors and aliases are not read: write the value out")
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(line, "", f"not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise YamlError(1, "", f"not valid YAML: {error}") from error
    documents = []
    for node in nodes:
        lines: dict[tuple[str | int, ...], int] = {}
        documents.append(YamlDocument(_plain(node, (), lines), lines))
    return documents


def _plain(node: yaml.Node, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if not node.tag.startswith(_CORE_TAGS) or node.tag.startswith(f"{_CORE_TAGS}python"):
        raise YamlError(node.start_mark.line + 1, _dotted(path), f"the tag {node.tag} is not read: write a plain value")
    if isinstance(node, yaml.MappingNode):
        return _plain_mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, position), lines) for position, child in enumerate(node.value)]
    return _plain_scalar(node, path)


def _plain_mapping(
    node: yaml.MappingNode, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line, key = key_node.start_mark.line + 1, str(key_node.value)
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlError(line, _dotted(path), "a key must be a plain word")
        if key in result:
            first = lines[(*path, key)]
            raise YamlError(line, _dotted((*path, key)), f"the key {key!r} is given twice (first on line {first}): keep one")
        lines[(*path, key)] = line
        result[key] = _plain(value_node, (*path, key), lines)
    return result


def _plain_scalar(node: yaml.Node, path: tuple[str | int, ...]) -> Any:
    text = str(node.value)
    if getattr(node, "style", None) is not None:
        return text
    if text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if text.lower() in _NULLS:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            return text
    return text


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in path)
