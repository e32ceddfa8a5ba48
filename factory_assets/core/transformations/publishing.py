"""Which of a dbt run's stages may be published: those whose tests passed, and that stand on no held one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

_PASSED = ("pass", "warn")
_GOOD = ("success", "pass", "warn", "no-op", "reused")


@dataclass(frozen=True)
class AuditTest:
    """One data test of the project: what it is called, whether its failure is an error, and which nodes it reads."""

    node: str
    name: str
    is_error: bool
    reads: tuple[str, ...]


@dataclass(frozen=True)
class PublishDecision:
    """What becomes of a run's stages.

    Attributes:
        published: The nodes whose stages readers get.
        held: The others, each with the reason as a sentence.
        is_complete: Whether everything that the run was asked for went well, so that its versions may be read together.
    """

    published: tuple[str, ...]
    held: Mapping[str, str] = field(default_factory=dict)
    is_complete: bool = True


def decide_publish(
    staged: Collection[str],
    results: Mapping[str, str],
    tests: Sequence[AuditTest],
    parents: Mapping[str, Sequence[str]],
    runs_tests: bool,
    publish_unaudited: bool = False,
) -> PublishDecision:
    """A stage is published when its model ended well and every error-severity test that reads it ran and passed.

    A test that did not run holds like one that failed, whatever kept it from running (`dbt run`, a selection, an earlier
    failure), unless `publish_unaudited`; a test that failed holds in any case. Whatever stands on a held stage, directly or
    not, is held with it, since it was made of rows that nobody is to see.

    Args:
        staged: Nodes with a stage.
        results: dbt's status of each node that has one.
        tests: The data tests of the whole project, selected or not.
        parents: The nodes that each node reads, over the whole project.
        runs_tests: Whether the command runs data tests at all.
        publish_unaudited: Whether the user takes tests that did not run for passed.
    """
    held: dict[str, str] = {}
    for node in sorted(staged):
        reason = _find_reason(node, results, tests, runs_tests, publish_unaudited)
        if reason is not None:
            held[node] = reason
    held |= _find_inherited(staged, held, parents)
    published = tuple(node for node in sorted(staged) if node not in held)
    return PublishDecision(published, held, not held and all(status in _GOOD for status in results.values()))


def _find_reason(
    node: str, results: Mapping[str, str], tests: Sequence[AuditTest], runs_tests: bool, publish_unaudited: bool
) -> str | None:
    status = results.get(node)
    if status != "success":
        return f"the model itself ended with {status or 'no result'}"
    own = [test for test in tests if test.is_error and node in test.reads]
    failed = [test.name for test in own if test.node in results and results[test.node] not in (*_PASSED, "skipped")]
    if failed:
        return f"failed: {', '.join(sorted(failed))}"
    if publish_unaudited:
        return None
    if not runs_tests:
        return "this command runs no tests"
    missing = [test.name for test in own if results.get(test.node) not in _PASSED]
    return f"did not run: {', '.join(sorted(missing))}" if missing else None


def _find_inherited(
    staged: Collection[str], held: Mapping[str, str], parents: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in sorted(staged):
        if node in held:
            continue
        seen: set[str] = set()
        waiting = list(parents.get(node, ()))
        while waiting:
            parent = waiting.pop()
            if parent in held:
                found[node] = f"it is built from {parent.split('.')[-1]}, which is held"
                break
            if parent not in seen:
                seen.add(parent)
                waiting += parents.get(parent, ())
    return found
