from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from factory_assets.contracts.incidents import Finding, Incident
from factory_assets.lines.blocking import find_blocked_days
from factory_assets.lines.stores import LineStores
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.incidents import Incidents
from tests.lines.conftest import SPEC

NOW = datetime(2013, 5, 3, tzinfo=UTC)
DAYS = [date(2013, 5, 1), date(2013, 5, 2)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    finding = Finding("half_batch", "", 400, "about 980 rows", "400")
    Incidents(lake).write([Incident("flights", DAYS[0], "half_batch", "open", "f", (finding,), "half", NOW, NOW)])
    return lake


def stores(lake: Lake, sources: tuple[str, ...], **keys: Any) -> LineStores:
    spec = SPEC.model_copy(update=keys)
    return LineStores(spec, lake, ArtefactStore(Path("/nowhere")), MlflowRegistry("sqlite:////nowhere", ""), sources)


def test_a_day_of_a_broken_source_is_blocked_with_the_reason_and_the_next_is_not(lake: Lake) -> None:
    assert find_blocked_days(stores(lake, ("flights", "weather")), DAYS) == {DAYS[0]: "source flights is broken: half"}


def test_a_line_that_goes_on_or_does_not_read_the_source_is_not_blocked(lake: Lake) -> None:
    assert find_blocked_days(stores(lake, ("flights",), when_broken="go_on"), DAYS) == {}
    assert find_blocked_days(stores(lake, ("weather",)), DAYS) == {}
