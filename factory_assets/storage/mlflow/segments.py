"""The window on single segments of a fleet: a run for each that was trained, a version for each that was promoted.

A segment's version points to the fleet's model, so it costs no file: loaded by `models:/<line>.<segment>@champion`, it
is the fleet as it was when the segment was promoted, and scores the segment's rows with that champion. Public MLflow API
only; 12 ms a segment, which is why only segments that changed have entries.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory_assets.core.models.artefacts import digest
from factory_assets.storage.mlflow.registry import (
    CHAMPION,
    CYCLE_TAG,
    MlflowRegistry,
    RegisteredVersion,
    create_registered_model,
    run_tags,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEGMENT_TAG = "factory.segment"
VERSION_TAG = "factory.version"
SERVES_TAG = "factory.serves"
_PARENT_RUN_TAG = "mlflow.parentRunId"
_LONGEST_NAME = 250
_DESCRIPTION = (
    "Version for version the fleet `{line}` as it was when this segment was promoted: it scores the rows of segment "
    "`{segment}` with that champion, and needs the columns that name the segment beside the features."
)


@dataclass(frozen=True)
class SegmentRecord:
    """What MLflow shows of one trained segment."""

    segment: str
    promoted: bool
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class SegmentRuns:
    """The runs of the segments of one cycle by segment, under the run `parent`."""

    parent: str
    cycle: str
    experiment_id: str
    ids: dict[str, str]


@dataclass(frozen=True)
class MlflowSegments:
    """Writes the entries of the segments of one line."""

    registry: MlflowRegistry
    line: str

    def open_runs(self, cycle: str, description: str) -> SegmentRuns:
        """The runs of a cycle's segments, with those that an earlier process left for the same cycle."""
        client, parent = self.registry.client(), self.registry.open_run(self.line, cycle, description)
        runs = SegmentRuns(parent, cycle, client.get_run(parent).info.experiment_id, {})
        query = f"tags.`{_PARENT_RUN_TAG}` = '{parent}' and attributes.status != 'KILLED'"
        for run in list(_pages(client.search_runs, [runs.experiment_id], query)):
            if run.info.status == "FINISHED":
                runs.ids[run.data.tags[SEGMENT_TAG]] = run.info.run_id
            else:
                client.set_terminated(run.info.run_id, "KILLED")
        return runs

    def log_run(self, runs: SegmentRuns, record: SegmentRecord) -> None:
        """A run for one trained segment, unless it has one."""
        if record.segment not in runs.ids:
            runs.ids[record.segment] = self._log_run(self.registry.client(), runs, record)

    def log(
        self, fleet: RegisteredVersion, runs: SegmentRuns, records: Sequence[SegmentRecord], amended: Collection[str]
    ) -> None:
        """A registered version for each promoted record, and the run of each record in line with it.

        Entries that an earlier process left for the same cycle are kept, and not made twice.

        Args:
            fleet: the version of the whole line.
            runs: those that there are already.
            records: of the trained segments, as was decided in the end.
            amended: segments of which something else was decided when their runs were logged.
        """
        client = self.registry.client()
        known = {} if fleet.is_new else self._versions_of(client, runs.cycle)
        for record in records:
            if record.segment in runs.ids and record.segment in amended:
                client.log_batch(runs.ids[record.segment], tags=run_tags(record.tags))
            self.log_run(runs, record)
            if record.promoted and record.segment not in known:
                self._register(client, fleet, runs.cycle, record, runs.ids[record.segment])

    def point_champions(self, serving: Mapping[str, int], moved: Iterable[str]) -> None:
        """Points each segment's alias at the version of the line that serves it; a segment that its parent serves has none.

        MLflow cannot search by alias, so the versions carry `factory.serves`. It is set first: what is cut off in between is
        found again by its alias. Aliases are listed once, and looked up only where something moved or one is missing.

        Args:
            serving: version of the line by segment, for the segments that serve themselves.
            moved: segments of which something was decided.
        """
        client, unsure = self.registry.client(), set(moved)
        for segment, (name, current) in self._aliases(client).items():
            version = serving.get(segment)
            if version is None:
                if current is not None:
                    client.set_model_version_tag(name, current, SERVES_TAG, "false")
                    client.delete_registered_model_alias(name, CHAMPION)
            elif current is None or segment in unsure:
                self._point(client, name, version, current)

    def _point(self, client: "MlflowClient", name: str, version: int, current: str | None) -> None:
        for found in client.search_model_versions(f"name = '{name}' and tags.`{VERSION_TAG}` = '{version}'"):
            if str(found.version) == current:
                continue
            if found.tags.get(SERVES_TAG) != "true":
                client.set_model_version_tag(name, str(found.version), SERVES_TAG, "true")
            if current is not None:
                client.set_model_version_tag(name, current, SERVES_TAG, "false")
            client.set_registered_model_alias(name, CHAMPION, str(found.version))

    def _aliases(self, client: "MlflowClient") -> dict[str, tuple[str, str | None]]:
        """Name and champion's number of every segment's registered model, in one listing."""
        found: dict[str, tuple[str, str | None]] = {}
        token = None
        while True:
            page = client.search_registered_models(
                f"tags.`factory.line` = '{self.line}'", max_results=1000, page_token=token
            )
            for model in page:
                segment = model.tags.get(SEGMENT_TAG)
                if segment is not None:
                    number = model.aliases.get(CHAMPION)
                    found[segment] = (model.name, None if number is None else str(number))
            token = page.token
            if not token:
                return found

    def _log_run(self, client: "MlflowClient", runs: SegmentRuns, record: SegmentRecord) -> str:
        from mlflow.entities import Metric, Param

        tags = {
            _PARENT_RUN_TAG: runs.parent,
            CYCLE_TAG: runs.cycle,
            SEGMENT_TAG: record.segment,
            "factory.line": self.line,
            **record.tags,
        }
        run_id = str(client.create_run(runs.experiment_id, tags=tags, run_name=record.segment).info.run_id)
        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in record.metrics.items()],
            params=[Param(name, value) for name, value in record.params.items()],
        )
        client.set_terminated(run_id)
        return run_id

    def _register(
        self, client: "MlflowClient", fleet: RegisteredVersion, cycle: str, record: SegmentRecord, run_id: str
    ) -> None:
        name = segment_model_name(self.line, record.segment)
        known = {"factory.line": self.line, SEGMENT_TAG: record.segment}
        description = _DESCRIPTION.format(line=self.line, segment=record.segment)
        create_registered_model(client, name, known, description)
        # What is promoted serves; a run has no such tag, for it is over, and its model may step back later.
        tags = {CYCLE_TAG: cycle, VERSION_TAG: str(fleet.version), **known, **record.tags, SERVES_TAG: "true"}
        client.create_model_version(name, fleet.source, run_id, tags=tags, model_id=fleet.source.removeprefix("models:/"))

    def _versions_of(self, client: "MlflowClient", cycle: str) -> dict[str, str]:
        found = _pages(client.search_model_versions, f"tags.`{CYCLE_TAG}` = '{cycle}'")
        return {v.tags[SEGMENT_TAG]: v.version for v in found if SEGMENT_TAG in v.tags}


def segment_model_name(line: str, segment: str) -> str:
    """The registered model of a segment; a key that is too long for a name ends in its hash.

    >>> segment_model_name("delay", "UA~1545")
    'delay.UA~1545'
    """
    name = f"{line}.{segment}"
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 17]}~{digest(segment.encode())[:16]}"


def _pages(search: Any, *arguments: Any) -> Iterable[Any]:
    token = None
    while True:
        page = search(*arguments, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
