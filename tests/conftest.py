"""Which tests run in the same worker: those of one file, and all that look at the one demo that was played."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# The demo takes minutes: it is played once, for all of these.
SHARE_A_DEMO = TESTS / "end_to_end"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups the tests for `--dist loadgroup`, so that what a file shares is made once."""
    for item in items:
        shared = SHARE_A_DEMO if item.path.is_relative_to(SHARE_A_DEMO) else item.path
        item.add_marker(pytest.mark.xdist_group(str(shared)))
