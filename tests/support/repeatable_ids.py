"""Random ids, tokens and nonces that are the same in every run of a test.

What holds for most ids but not for all then holds, or not, on every machine. `SONANT_TESTS_SEED=N` draws
others, to look for tests that depend on them; with `--hypothesis-profile search` all are really random.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

SEED = "SONANT_TESTS_SEED"
_REAL = os.urandom


class RepeatableIds:
    """Replaces the source of `uuid`, `secrets` and `os.urandom` in this process, but not in its children."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._drawn = random.Random(seed)
        _take_from(self._draw)
        # Two children would draw the same, and what one of them seals would share its nonces with the other.
        os.register_at_fork(after_in_child=restore)

    def _draw(self, size: int, /) -> bytes:
        return self._drawn.randbytes(size)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._drawn = random.Random(f"{self._seed} {item.nodeid}")
        return (yield)


def restore() -> None:
    """Draw from the operating system again."""
    _take_from(_REAL)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--hypothesis-profile", default=None) != "search":
        config.pluginmanager.register(RepeatableIds(os.environ.get(SEED, "0")))


def _take_from(source: object) -> None:
    vars(os)["urandom"] = vars(random)["_urandom"] = source
