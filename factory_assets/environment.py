"""What a setting does not show by itself: that nobody reads it, or that what it names cannot be used or does not answer."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import duckdb
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from factory_assets.contracts.names import suggest
from factory_assets.settings import FactorySettings
from factory_assets.storage.tables.alerts import BadTargetError, Outbox

_PREFIX = "FACTORY_"
_READ_BY_DBT = re.compile(rf"{_PREFIX}\w+")
_ANSWER_SECONDS = 5


def find_faults(settings: FactorySettings, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Settings that will not work whatever comes, each with its variable and what to do; no part of a secret is told."""
    faults = []
    try:
        Outbox(settings.alert_addresses).check()
    except BadTargetError as error:
        faults.append(f"FACTORY_ALERT_TARGETS: {error}")
    memory = environment.get("FACTORY_DUCKDB_MEMORY")
    if memory is not None:
        try:
            duckdb.connect(config={"memory_limit": memory}).close()
        except duckdb.Error as error:
            faults.append(f"FACTORY_DUCKDB_MEMORY: {memory!r} is no amount of memory: {error}")
    scheme = settings.mlflow_uri.partition("://")[0]
    if not scheme.startswith(("sqlite", "http")):
        try:
            make_url(f"{scheme}://").get_dialect().import_dbapi()
        except (ImportError, ArgumentError) as error:
            faults.append(f"FACTORY_MLFLOW_TRACKING_URI: no driver for {scheme}:// is installed here: {error}")
    return faults


def find_doubts(settings: FactorySettings, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What looks wrong and may be meant: variables that nothing reads, and a server that does not answer yet."""
    return [*_name_unknown_variables(environment, settings.dbt_project), *_name_silent_server(settings.mlflow_uri)]


def _name_unknown_variables(environment: Mapping[str, str], dbt_project: Path) -> list[str]:
    given = sorted(name for name in environment if name.startswith(_PREFIX))
    known = {f"{_PREFIX}{name.upper()}" for name in FactorySettings.model_fields}
    if known.issuperset(given):
        return []
    # What the dbt project takes from the environment, analysts' own variables among it.
    for pattern in ("*.yml", "models/**/*.*", "macros/**/*.*"):
        for file in dbt_project.glob(pattern):
            known.update(_READ_BY_DBT.findall(file.read_text(encoding="utf-8", errors="ignore")))
    return [
        f"{name}: nothing reads this variable: {suggest(name, known)} docs/how-to/settings.md lists them all"
        for name in given
        if name not in known
    ]


def _name_silent_server(uri: str) -> list[str]:
    if not uri.startswith(("http://", "https://")):
        return []
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS).close()  # noqa: S310 (http or https)
    except HTTPError:
        pass  # a server that refuses is one
    except (URLError, OSError, ValueError) as error:
        # Without a user and password that may stand before the host.
        place = urlsplit(uri).netloc.rpartition("@")[2]
        reason = getattr(error, "reason", error)
        return [f"FACTORY_MLFLOW_TRACKING_URI: {place} does not answer ({reason}): no model is trained until it does"]
    return []
