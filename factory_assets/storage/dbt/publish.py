"""Publishing what a dbt run has staged: all of it or a part, finished by the next run where this one is killed.

The order is what makes it safe. What is about to happen is written to `ops/publishes` first, then each table gets its one
commit, then `ops/publishes` says that the versions belong together. Killed before the first step, nothing has happened;
killed after it, the next run finds what is missing and finishes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable

from factory_assets.core.transformations.publishing import PublishDecision
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.log import Action, VersionTakenError, read_commit, write_commit
from factory_assets.storage.delta.snapshots import open_table
from factory_assets.storage.delta.table_place import TablePlace
from factory_assets.storage.delta.table_stage import STAGE_KEY, STAGES, Stage
from factory_assets.storage.tables.publishes import Publishes, TableRecord, decode_commit, encode_commit

STAGE_GRACE = timedelta(days=1)
_CHECKPOINT_EVERY = 100


@dataclass(frozen=True)
class PublishReport:
    """What a run published, by dbt node.

    Attributes:
        versions: What readers get now.
        problems: What they do not get, and why.
        is_complete: Whether the versions of this run may be read together.
        is_stale: Whether another writer was faster, so that the same build on fresh data may well succeed.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    is_complete: bool = True
    is_stale: bool = False


def publish_stages(lake: Lake, stages: Mapping[str, Stage], decision: PublishDecision, run_id: str) -> PublishReport:
    """Publishes the stages (by dbt node) that the decision lets through, and keeps the held ones for a look.

    A table that somebody else has written since it was read is not published, and neither is anything of the set that
    comes after it; the report says so.
    """
    journal = Publishes.read(lake)
    problems = {node: _describe_held(stages[node], reason) for node, reason in decision.held.items()}
    stale = {node: _describe_stale(stages[node]) for node in decision.published if not _is_fresh(lake, stages[node])}
    if stale:
        # One stale table makes the set one of two runs, so nothing of it goes out.
        kept = {n: "not published: it belongs to one set with a table that another writer has changed"
                for n in decision.published if n not in stale}  # fmt: skip
        journal.write(_held_records(journal, stages, {**decision.held, **stale, **kept}, run_id))
        return PublishReport({}, {**problems, **stale, **kept}, is_complete=False, is_stale=True)
    going = {node: stages[node] for node in decision.published if _changes(stages[node])}
    for stage in going.values():
        stage.state.place.sync(_own_files(stage))
    intent = [
        *_held_records(journal, stages, decision.held, run_id),
        *(_intend(journal, stages[node], run_id, decision.is_complete) for node in decision.published),
    ]
    outcome = _carry_out(journal.write(intent))
    versions: dict[str, int] = {}
    for node in decision.published:
        version = outcome[_table_name(stages[node])]
        if version is None:
            problems[node] = _describe_stale(stages[node])
        else:
            versions[node] = version
    is_stale = len(versions) < len(decision.published)
    return PublishReport(versions, problems, decision.is_complete and not is_stale, is_stale)


def finish_interrupted(lake: Lake) -> list[str]:
    """Finishes what a killed run had begun to publish; returns the names of the tables.

    A table that was changed by somebody else since then is left as it is, and the set is given up: readers keep the
    versions that belong together.
    """
    journal = Publishes.read(lake)
    names = [record.table_name for record in journal.pending]
    if names:
        _carry_out(journal)
    return names


def sweep_stages(lake: Lake, grace: timedelta = STAGE_GRACE, now: datetime | None = None) -> list[str]:
    """Deletes stages that were never published, are not held for a look, and are older than `grace`.

    To be called by whoever has the lake (`take_lake`): the stages of a live build are younger than its lock.
    """
    needed = Publishes.read(lake).stages
    oldest = (now or datetime.now(UTC)) - grace
    swept = []
    for name in lake.files.staged_tables():
        place = TablePlace(lake.uri(name))
        for stage, newest in sorted(place.list_folders(STAGES).items()):
            if stage not in needed and newest <= oldest and not _is_in_log(place, stage):
                place.delete_folder(f"{STAGES}/{stage}")
                swept.append(f"{name}/{STAGES}/{stage}")
    return swept


def _carry_out(journal: Publishes) -> dict[str, int | None]:
    """Makes each pending commit that is not there yet, then records the set; returns each table's version, None if lost."""
    lake = journal.lake
    outcome = {record.table_name: _commit(lake, record) for record in journal.pending}
    is_whole = all(version is not None for version in outcome.values())
    at = datetime.now(UTC)
    done = []
    for record in journal.pending:
        cleared = record.without_pending()
        version = outcome[record.table_name]
        if version is not None:
            cleared = cleared.without_held()
        if is_whole and record.pending_is_complete and cleared.version != version:
            cleared = replace(cleared, version=version, published_at_utc=at, run_id=record.pending_run_id)
        done.append(cleared)
    journal.write(done)
    return outcome


def _commit(lake: Lake, record: TableRecord) -> int | None:
    """The version that the record's commit has now; None when another writer took its place."""
    assert record.pending_stage is not None
    assert record.pending_version is not None
    if record.pending_commit is None:
        # Nothing changed in this table: it is a member of the set as it is.
        return record.pending_version
    place = TablePlace(lake.uri(record.table_name))
    actions = decode_commit(record.pending_commit)
    version = record.pending_version
    while True:
        try:
            write_commit(place, version, actions)
        except VersionTakenError:
            theirs = read_commit(place, version) or []
            if _stage_of(theirs) == record.pending_stage:
                return version
            if not _is_harmless(theirs, actions):
                return None
            version += 1
        else:
            if version % _CHECKPOINT_EVERY == 0 and version:
                DeltaTable(place.uri, storage_options=place.options).create_checkpoint()
            return version


def _is_fresh(lake: Lake, stage: Stage) -> bool:
    """Whether nobody has changed rows or columns since the version that the stage was built on."""
    version, actions = stage.base_version + 1, stage.commit(datetime.now(UTC))
    while (theirs := read_commit(stage.state.place, version)) is not None:
        if not _is_harmless(theirs, actions):
            return False
        version += 1
    head = lake.find(stage.state.place.table_name)
    return (-1 if head is None else head.version) == version - 1


def _is_harmless(theirs: Sequence[Action], ours: Sequence[Action]) -> bool:
    """Whether our commit may follow theirs unread: theirs only moved rows between files, none of which we drop.

    That is what compaction and vacuum do.
    """
    files = [action[kind] for action in theirs for kind in ("add", "remove") if kind in action]
    if not theirs or any(file.get("dataChange", True) for file in files):
        return False
    changes_table = [any(kind in action for kind in ("metaData", "protocol")) for action in (*theirs, *ours)]
    if any(changes_table):
        return False
    gone = {action["remove"]["path"] for action in theirs if "remove" in action}
    return not any(action["remove"]["path"] in gone for action in ours if "remove" in action)


def _intend(journal: Publishes, stage: Stage, run_id: str, is_complete: bool) -> TableRecord:
    changes = _changes(stage)
    return replace(
        journal.record(_table_name(stage)),
        pending_run_id=run_id,
        pending_is_complete=is_complete,
        pending_stage=stage.stage_id,
        pending_version=stage.base_version + (1 if changes else 0),
        pending_commit=encode_commit(stage.commit(datetime.now(UTC))) if changes else None,
    )


def _held_records(
    journal: Publishes, stages: Mapping[str, Stage], held: Mapping[str, str], run_id: str
) -> Iterator[TableRecord]:
    for node, reason in held.items():
        stage = stages[node]
        if _changes(stage):
            yield replace(
                journal.record(_table_name(stage)),
                held_run_id=run_id,
                held_stage=stage.stage_id,
                held_base_version=stage.base_version,
                held_reason=reason,
                held_commit=encode_commit(stage.commit(datetime.now(UTC))),
            )


def _changes(stage: Stage) -> bool:
    return bool(stage.adds or stage.removed or stage.table_actions)


def _own_files(stage: Stage) -> Iterator[str]:
    return (unquote(str(add["path"])) for add in stage.adds)


def _stage_of(actions: Sequence[Action]) -> Any:
    return next((action["commitInfo"].get(STAGE_KEY) for action in actions if "commitInfo" in action), None)


def _is_in_log(place: TablePlace, stage: str) -> bool:
    """Whether a published version of the table names a file of this stage."""
    table = open_table(place.uri, storage_options=place.options)
    if table is None:
        return False
    if any(f"/{STAGES}/{stage}/" in uri for uri in table.file_uris()):
        return True
    # Older versions may still be read; what no kept version names is vacuum's to delete.
    return any(commit.get(STAGE_KEY) == stage for commit in table.history())


def _table_name(stage: Stage) -> str:
    return stage.state.place.table_name


def _describe_held(stage: Stage, reason: str) -> str:
    keeps = f"readers keep version {stage.base_version}" if stage.base_version >= 0 else "there is no table for readers yet"
    schema, name = _table_name(stage).split("/")
    look = f'dbt show --inline "select * from {schema}.held__{name}"'
    return f"{reason}; {keeps}" + (f"; to look at the rows: {look}" if _changes(stage) else "")


def _describe_stale(stage: Stage) -> str:
    if stage.base_version < 0:
        what = "was created by another writer while this run built it"
    else:
        what = f"was changed by another writer after this run had read version {stage.base_version}"
    return f"{what}, so its new rows were not published: build again"
