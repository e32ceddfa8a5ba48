"""Which versions a dbt invocation reads: the vars `as_of` and `pins`, and the `meta` of sources and models.

dbt build --target dev --vars '{as_of: "2013-05-01T00:00:00Z"}'
dbt show --select fct_flight --vars '{pins: {bronze/flights: 0}}'

sources: [{name: bronze, tables: [{name: flights, config: {meta: {delta: {version: 0}}}}]}]
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from dbt.adapters.factory import get_adapter_by_type
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError

from factory_assets.storage.dbt.time_travel import META_KEY, Pin, Pins, TimeTravelError, read_instant

# Neither is typed by dbt.
_find_adapter: Callable[[str], Any] = get_adapter_by_type
_find_flags: Callable[[], Any] = get_flags


def read_as_of() -> datetime | None:
    """The instant that the invocation reads the whole lake as of.

    Raises:
        DbtRuntimeError: It is not written as an instant.
    """
    value = _vars().get("as_of")
    try:
        return None if value is None else read_instant(value, "--vars as_of")
    except TimeTravelError as error:
        raise DbtRuntimeError(str(error)) from error


def read_pins() -> Pins:
    """All that the invocation says; what its vars pin goes before what the project's files pin.

    Raises:
        DbtRuntimeError: A pin is not written as one.
    """
    wanted = _vars().get("pins") or {}
    if not isinstance(wanted, Mapping):
        raise DbtRuntimeError("--vars pins: expected tables with their versions, such as {bronze/flights: 0}")
    try:
        declared = {name: Pin.read(value, where) for name, value, where in _declared()}
        asked = {str(name): Pin.read(value, f"--vars pins {name}") for name, value in wanted.items()}
    except TimeTravelError as error:
        raise DbtRuntimeError(str(error)) from error
    return Pins({**declared, **asked}, read_as_of(), is_invocations=bool(asked))


def _declared() -> Iterator[tuple[str, Any, str]]:
    manifest = _find_adapter("duckdb").get_macro_resolver()
    nodes = [*getattr(manifest, "sources", {}).values(), *getattr(manifest, "nodes", {}).values()]
    for node in nodes:
        pin = (getattr(node.config, "meta", None) or {}).get(META_KEY)
        if pin is not None:
            yield f"{node.schema}/{node.identifier}", pin, f"{node.original_file_path}: {node.name}: config.meta.delta"


def _vars() -> Mapping[str, Any]:
    return getattr(_find_flags(), "VARS", None) or {}
