"""A fleet of a thousand segments as the Dagster UI asks for it: all states at once, in few statements and few bytes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster_graphql.test.utils import define_out_of_process_context, execute_dagster_graphql

from factory_assets.components.model_line.cells import show_segments
from factory_assets.components.naming import RANGE_EVENTS_SWITCH, segments_key
from factory_assets.lines.stores import LineStores
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.promotion_history import PromotionHistory
from tests.lines.conftest import START
from tests.lines.fleet_fixture import fleet_spec

SPEC = fleet_spec()
SEGMENTS = [f"UA~{number}" for number in range(1000)]
RED = {"UA~7", "UA~500", "UA~501"}
# As the pages of the UI ask: all cells of the asset, and one cell.
CELLS = """
query ($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) { ... on AssetNode {
    partitionKeysByDimension { partitionKeys }
    assetPartitionStatuses { ... on DefaultPartitionStatuses {
      materializedPartitions materializingPartitions failedPartitions
    } }
  } }
}"""
CELL = """
query ($asset: AssetKeyInput!, $segment: String!) {
  assetOrError(assetKey: $asset) { ... on Asset {
    definition { latestRunForPartition(partition: $segment) { status } }
    assetEventHistory(partitions: [$segment], limit: 1000, eventTypeSelectors: [MATERIALIZATION, OBSERVATION]) {
      results { __typename ... on DisplayableEvent { metadataEntries {
        label ... on TextMetadataEntry { text } ... on FloatMetadataEntry { floatValue }
        ... on BoolMetadataEntry { boolValue } ... on IntMetadataEntry { intValue }
        ... on TimestampMetadataEntry { timestamp }
      } } }
    }
  } }
}"""


def decided(segment: str, version: int, sequence: int, failed: bool = False) -> dict[str, Any]:
    fitted = {"outcome": "fitted", "reason": "Promoted: roc_auc 0.8000 is better.", "challenger_value": 0.8}
    outcome = {"outcome": "failed", "reason": "ValueError: one class", "challenger_value": None} if failed else fitted
    value = {"promoted": not failed, "serves": not failed, "champion_value": None, "parent_value": 0.7}
    trained = {"trained_at_utc": START, "trained_in_run": ""}
    decision = {"segment": segment, "version": version, "sequence": sequence, "dagster_run_id": "1"}
    return {**decision, "champion_before": version - 1 or None, **trained, **value, **outcome}


class Pages:
    """The webserver's answers on a fleet, with what they cost."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def ask(self, query: str, **variables: Any) -> SimpleNamespace:
        asset = {"path": segments_key(SPEC.name).path}
        with counted_statements() as statements:
            result = execute_dagster_graphql(self.context, query, {"asset": asset, **variables})
        answer = result.data["assetNodeOrError" if query is CELLS else "assetOrError"]
        return SimpleNamespace(answer=answer, statements=len(statements), answer_bytes=len(json.dumps(result.data)))


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    found: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """After a cycle that trained them all but three, and one that trained two of them again."""
    folder = tmp_path_factory.mktemp("thousand")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv(RANGE_EVENTS_SWITCH, "true")  # as every installation has it
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        first = {segment: decided(segment, 2, 1, segment in RED) for segment in SEGMENTS}
        for news in (first, first | {segment: decided(segment, 2, 2) for segment in ("UA~3", "UA~501")}):
            monkeypatch.setattr(PromotionHistory, "news", lambda *_, found=news: list(found.values()))
            show(instance, LineStores(SPEC, Lake(str(folder)), ArtefactStore(folder), MlflowRegistry("", "")))
        location = Path(__file__).with_name("fleet_location.py")
        with define_out_of_process_context(str(location), None, instance) as context:
            yield Pages(context)
    monkeypatch.undo()


def show(instance: dg.DagsterInstance, stores: LineStores) -> None:
    @dg.asset
    def models(context: dg.AssetExecutionContext) -> None:
        show_segments(context, stores)

    assert dg.materialize([models], instance=instance).success


def test_one_question_tells_the_state_of_every_segment_in_few_statements_and_bytes(pages: Pages) -> None:
    told = pages.ask(CELLS)
    (dimension,) = told.answer["partitionKeysByDimension"]
    states = told.answer["assetPartitionStatuses"]
    assert sorted(dimension["partitionKeys"]) == sorted(SEGMENTS)
    assert set(states["failedPartitions"]) == RED - {"UA~501"}
    assert set(states["materializedPartitions"]) == set(SEGMENTS) - RED | {"UA~501"}
    assert states["materializingPartitions"] == []
    names = len(json.dumps(SEGMENTS))
    assert told.answer_bytes < 2 * names + 1000  # each name is listed once, and once by its state
    assert told.statements < 50


def test_one_segment_is_told_in_few_statements_with_all_that_became_of_it(pages: Pages) -> None:
    told = pages.ask(CELL, segment="UA~501")
    newest, before = told.answer["assetEventHistory"]["results"]
    assert (newest["__typename"], before["__typename"]) == ("MaterializationEvent", "ObservationEvent")
    assert entries(newest) == {
        "state": "fitted",
        "version": 2,
        "champion_version": 2,
        "promoted": True,
        "serves": True,
        "reason": "Promoted: roc_auc 0.8000 is better.",
        "cause": "decided in run 1",
        "trained_at": START.timestamp(),
        "trained_in_this_run": False,
        "roc_auc": 0.8,
        "parent_roc_auc": 0.7,
    }
    assert told.statements < 20
    assert told.answer_bytes < 2000


def test_a_red_segment_names_its_reason_and_the_champion_that_it_has(pages: Pages) -> None:
    told = pages.ask(CELL, segment="UA~500")
    assert told.answer["definition"]["latestRunForPartition"]["status"] == "FAILURE"
    (failed,) = told.answer["assetEventHistory"]["results"]
    shown = entries(failed)
    assert (shown["state"], shown["champion_version"], shown["reason"]) == ("failed", 1, "ValueError: one class")


def entries(event: dict[str, Any]) -> dict[str, Any]:
    """Label and value of what an event tells."""
    told = event["metadataEntries"]
    return {entry["label"]: next(value for name, value in entry.items() if name != "label") for entry in told}
