"""What a Python model returns becomes a DuckDB table, from which its rows go the way of every other model's."""

from typing import Any

import duckdb
from dbt_common.exceptions import DbtRuntimeError

from factory_assets.storage.sql import quote_identifier

_RETURNED = "__delta_returned"


def keep_rows(returned: Any, cursor: Any, table: str) -> None:
    """Keeps what `model(dbt, session)` returned (a DuckDB relation, a data frame, Arrow) as the table named `table`.

    Raises:
        DbtRuntimeError: It is no table, or a column cannot be taken in; names the column, and the remedy.
    """
    if returned is None:
        raise DbtRuntimeError("model() returned nothing: return a DuckDB relation, a pandas data frame or an Arrow table")
    try:
        cursor.register(_RETURNED, returned)
    except (duckdb.Error, TypeError) as error:
        raise DbtRuntimeError(
            f"model() returned {type(returned).__name__}, which DuckDB cannot read ({_first_line(error)}): return a DuckDB "
            "relation, a pandas data frame or an Arrow table"
        ) from error
    try:
        cursor.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {_RETURNED}")
    except duckdb.Error as error:
        raise DbtRuntimeError(_describe(returned, cursor, error)) from error
    finally:
        cursor.unregister(_RETURNED)


def _describe(returned: Any, cursor: Any, error: Exception) -> str:
    for column in getattr(returned, "columns", ()):
        # A data frame's column by itself, since DuckDB reads all of a frame to give one.
        try:
            cursor.register(_RETURNED, returned[[column]] if hasattr(returned, "iloc") else returned)
            cursor.execute(f"SELECT count({quote_identifier(str(column))}) FROM {_RETURNED}").fetchall()
            cursor.execute(f"SELECT max({quote_identifier(str(column))}::VARCHAR) FROM {_RETURNED}").fetchall()
        except (duckdb.Error, TypeError) as one:
            return (
                f"column {column} of what model() returned cannot be taken in ({_first_line(one)}): cast it before it is "
                "returned, such as df[column].astype('string')"
            )
    return f"what model() returned cannot be taken in: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
