"""Distribute tests over the processes of a run by whole files, in the order in which they were collected.

What a module shares, often a service of its own, is then made once a run and not once a process. Tests that
name an `xdist_group` run with their group, as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import Scheduling


def scope_of(nodeid: str, group: str) -> str:
    """Name what a test runs with: its group, or its file when `group` is no more than the test itself."""
    return nodeid.partition("::")[0] if group == nodeid else group


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Return the scheduler for `--dist loadgroup`; None leaves other ways of distribution to xdist."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class WholeFiles(LoadGroupScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid, super()._split_scope(nodeid))

    return WholeFiles(config, log)
