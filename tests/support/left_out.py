"""Say at the end of a run what it left out and why: skipped tests by reason, tests that were not selected.

With SONANT_TESTS_MUST_RUN=1 a skipped test fails the run. Works with pytest-xdist too, where only the workers
know what was not selected.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pytest

MUST_RUN = "SONANT_TESTS_MUST_RUN"
_OUTPUT = "left_out"
_SLOW = "slow: run them with `make test-all`"
_UNSELECTED = "not selected on the command line"


class LeftOut:
    """Counts what is not run. One in the process that reports, and one in each worker."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._unselected: Counter[str] = Counter()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        without_slow = self._config.option.markexpr == "not slow"
        self._unselected.update(
            _SLOW if without_slow and item.get_closest_marker("slow") else _UNSELECTED for item in items
        )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        """Take over what a worker did not select. All workers collect the same tests."""
        told: Mapping[str, int] = getattr(node, "workeroutput", {}).get(_OUTPUT, {})
        self._unselected |= Counter(told)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[_OUTPUT] = dict(self._unselected)
        elif _must_run() and self._skipped() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        """Print the table, below all that pytest itself sums up."""
        yield
        self._print(terminalreporter)

    def _print(self, reporter: pytest.TerminalReporter) -> None:
        skipped = self._skipped()
        reporter.section("left out")
        for reason, count in [*skipped.most_common(), *self._unselected.most_common()]:
            reporter.write_line(f"{count:6d}  {reason}")
        if not skipped:
            rest = " but what was not selected" if self._unselected else ""
            reporter.write_line(f"Nothing was left out{rest}: every selected test could run here.")
        elif _must_run():
            reporter.write_line(f"Skipped tests fail this run, because {MUST_RUN} is set.", red=True)

    def _skipped(self) -> Counter[str]:
        """How many were skipped, by reason; a module that is skipped as a whole counts as one."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        reports = reporter.stats.get("skipped", []) if reporter else []
        return Counter(_reason(report) for report in reports)


def _must_run() -> bool:
    return os.environ.get(MUST_RUN, "") not in ("", "0")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return " ".join(told.removeprefix("Skipped: ").split())


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeftOut(config), "left-out")
