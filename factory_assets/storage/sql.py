"""Values and names as SQL text: the one place in the factory where a value becomes part of a statement.

Two engines read this text: DuckDB, and the DataFusion inside delta-rs (predicates of overwrites, merges and deletes). A
literal written here means the same in both **when it is compared with a column of its own type**, which is the only use
that a predicate has for it.
"""

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeAlias

SqlValue: TypeAlias = bool | int | float | Decimal | str | date | datetime | None

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


def quote_identifier(name: str) -> str:
    """Return `name` as a double-quoted identifier.

    Raises:
        ValueError: The name is empty or holds a NUL byte.

    >>> quote_identifier('a "b" c')
    '"a ""b"" c"'
    """
    if not name:
        raise ValueError("an SQL identifier cannot be empty")
    return '"' + _without_nul(name).replace('"', '""') + '"'


def literal(value: SqlValue) -> str:
    """Return `value` as an SQL literal for comparison with a column of the value's own type.

    Timestamps and decimals are written as quoted text, which both engines cast to the column's type. A typed literal
    (`TIMESTAMPTZ '…'`, `CAST(… AS DECIMAL)`) is refused by delta-rs, whose file pruning compares without coercion:
    `Invalid comparison operation: Timestamp(µs, "UTC") <= Timestamp(ns)`. Floats always carry an exponent, because a
    bare `0.1` is a decimal in DuckDB.

    Raises:
        ValueError: A NUL byte, nan, an infinity, an integer outside 64 bits, a datetime without time zone.
        TypeError: Any other type.

    >>> literal("it's"), literal(None), literal(0.1), literal(Decimal("1.50"))
    ("'it''s'", 'NULL', '0.1e0', "'1.50'")
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            if not _INT64_MIN <= value <= _INT64_MAX:
                raise ValueError(f"{value} does not fit into 64 bits, the widest integer of a Delta table")
            return str(int(value))
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} cannot be compared in SQL: nan and infinities have no portable literal")
            digits = repr(float(value))
            return digits if "e" in digits else digits + "e0"
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"Decimal {value} cannot be compared in SQL: it is not a finite number")
            return f"'{value:f}'"
        case datetime():
            if value.tzinfo is None:
                raise ValueError(f"{value!r} has no time zone: give an aware datetime, such as one in UTC")
            return f"'{value.astimezone(UTC).isoformat(timespec='microseconds')}'"
        case date():
            return f"DATE '{value.isoformat()}'"
        case str():
            return "'" + _without_nul(value).replace("'", "''") + "'"
        case _:
            raise TypeError(f"no SQL literal for {type(value).__name__}: expected null, bool, int, float, Decimal, "
                            "str, date or an aware datetime")  # fmt: skip


def equals_any(column: str, values: Iterable[SqlValue]) -> str:
    r"""Return a condition that holds exactly for the rows whose `column` is one of `values`, nulls included.

    No values give `FALSE`: nothing was named, so nothing is matched.

    >>> equals_any("carrier", ["UA", None])
    '("carrier" IN (\'UA\') OR "carrier" IS NULL)'
    """
    name = quote_identifier(column)
    has_null = False
    # A dict keeps the given order, so that the same request is always the same text.
    literals: dict[str, None] = {}
    for value in values:
        if value is None:
            has_null = True
            continue
        literals[literal(value)] = None
        if isinstance(value, float) and value == 0:
            # The zeros are equal in DuckDB and different in DataFusion.
            literals.update({"0.0e0": None, "-0.0e0": None})
    conditions = [f"{name} IN ({', '.join(literals)})"] if literals else []
    if has_null:
        conditions.append(f"{name} IS NULL")
    if not conditions:
        return "FALSE"
    return conditions[0] if len(conditions) == 1 else f"({' OR '.join(conditions)})"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"a NUL byte cannot be part of SQL text: {text!r}")
    return text
