"""Distribute tests over the processes of a run by whole files, in the order in which they were collected.

What a module shares, often a service of its own, is then made once a run and not once a process. The tests of
some folders stay together too, for they share servers. `xdist_group` alone does not do that: pytest-xdist 3.8
writes groups where pytest 9 no longer looks for them, and every test goes its own way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import Scheduling  # type: ignore[import-untyped]

#: Folders whose tests share servers that a process has once: S3 and KMS, a token, a Ray cluster.
TOGETHER = ("tests/aws", "tests/hsm", "tests/cluster")


def scope_of(nodeid: str, group: str) -> str:
    """Name what a test runs with: its group, or else its folder or its file.

    Where no group is named, `group` is the test itself.
    """
    if group != nodeid:
        return group
    file = nodeid.partition("::")[0]
    folder = file.rpartition("/")[0]
    return folder if folder in TOGETHER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Return the scheduler for `--dist loadgroup`; None leaves other ways of distribution to xdist."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class WholeFiles(LoadGroupScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid, super()._split_scope(nodeid))

    return WholeFiles(config, log)
