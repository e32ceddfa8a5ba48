"""The one rule for names that become asset keys, table folders, MLflow names and sensor names."""

from collections.abc import Collection
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

NAME_RULE = "lower-case letters, digits and underscores, starting with a letter, at most 63 characters"
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_MOST_LISTED = 8
_UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def check_name(name: str) -> str:
    """Returns `name` when it follows NAME_RULE; one strict rule, because paths, predicates and URLs are made of it.

    Raises:
        ValueError: when it does not.
    """
    if not name or len(name) > 63 or not name[0].islower() or not set(name) <= _NAME_CHARACTERS:
        raise ValueError(f"{name!r} is not a name: use {NAME_RULE}")
    return name


def check_column(name: str) -> str:
    """Returns `name` when it may be a column: as a name, but upper case and a leading underscore are allowed.

    Raises:
        ValueError: when it may not.
    """
    lowered = name.lower().lstrip("_")
    if not lowered or len(name) > 128 or not set(lowered) <= _NAME_CHARACTERS or lowered[0].isdigit():
        raise ValueError(f"{name!r} is not a column name: use letters, digits and underscores")
    return name


def suggest(name: str, known: Collection[str], listed: str = "") -> str:
    """What to write instead of a name that is not known: the nearest one, or which there are.

    Of more than a sentence holds, `listed` says where they stand.

    >>> suggest("max_itr", ["max_iter", "tol"])
    "did you mean 'max_iter'?"
    >>> suggest("zzz", ["tol", "max_iter"])
    'there are max_iter, tol'
    >>> suggest("zzz", [f"check_{place}" for place in range(30)], "`dbt ls` lists them")
    '`dbt ls` lists them'
    """
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if listed and len(known) > _MOST_LISTED:
        return listed
    return f"there are {', '.join(sorted(known)) or 'none'}"


def parse_duration(value: Any) -> timedelta:
    """Reads '14d', '36h', '30m' or '2w' (a whole number and one unit) as a timedelta.

    >>> parse_duration("36h")
    datetime.timedelta(days=1, seconds=43200)

    Raises:
        ValueError: for anything else, zero and negative spans included.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    number, unit = text[:-1], text[-1:]
    if unit not in _UNIT_SECONDS or not number.isdecimal() or int(number) == 0:
        raise ValueError(f"{value!r} is not a span of time: write a whole number and a unit, such as 30m, 36h, 14d or 2w")
    return timedelta(seconds=int(number) * _UNIT_SECONDS[unit])


def format_duration(span: timedelta) -> str:
    """The shortest spelling that `parse_duration` reads back.

    >>> format_duration(timedelta(days=14))
    '2w'
    """
    seconds = int(span.total_seconds())
    for unit in ("w", "d", "h", "m"):
        if seconds % _UNIT_SECONDS[unit] == 0:
            return f"{seconds // _UNIT_SECONDS[unit]}{unit}"
    return f"{max(1, seconds // 60)}m"


Name = Annotated[str, AfterValidator(check_name)]
ColumnName = Annotated[str, AfterValidator(check_column)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)]
