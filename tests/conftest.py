"""What all tests share: real telephone speech and calls made from it, and a real PostgreSQL."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import tempfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

# Before anything imports numpy, as the `sonant` command does: threads would only compete for cores that other
# processes of this run use.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import pytest
from debian_source import HAS_APT, NO_APT
from forked_processes import fork_workers
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase
from memory_files import put_temporary_files_in_memory
from postgres_server import DATABASES, NoServer, PostgresServer, postgres
from shared_statements import share_compiled_statements
from sqlite_template import put_tables

from sonant.demo.recordings import call_recording, split_clips
from sonant.demo.speech import fetch_voices
from sonant.events import outbox

pytest_plugins = ["left_out", "repeatable_ids", "whole_files"]

# Some environments keep Python from storing what it compiles. Every service, runner, worker and command that
# a test starts would then compile the whole package anew, which takes longer than what most of them do.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell starts what it runs in the background with SIGINT ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
STRICT_EVENTS = Path(__file__).parent / "support" / "strict_events"

# Every event of every test is checked: here, and in each Python that is started from here.
sys.path.append(str(STRICT_EVENTS))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(STRICT_EVENTS), *filter(None, [os.environ.get("PYTHONPATH")])]
)
importlib.import_module("event_checks").put_on(outbox)

_HYPOTHESIS = Path(tempfile.gettempdir(), f"sonant-hypothesis-{os.getuid()}")
set_hypothesis_home_dir(_HYPOTHESIS)
# No example has a deadline: how long one takes is the machine's. The same examples come every time, but for
# `--hypothesis-profile search` (`make test-all`), which looks for many more new ones and keeps those
# that fail.
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search",
    settings.get_profile("repeatable"),
    derandomize=False,
    max_examples=200,
    database=DirectoryBasedExampleDatabase(_HYPOTHESIS / "examples"),
)
settings.load_profile("repeatable")

put_temporary_files_in_memory()
fork_workers()
share_compiled_statements()


def pytest_collection_finish() -> None:
    """Have the garbage collector look at what the tests make, and not at nine thousand tests each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a process; without one they are skipped and say why."""
    try:
        with postgres() as server:
            yield server
    except NoServer as why:
        pytest.skip(f"no PostgreSQL: {why}")


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of this test alone, with its tables, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        put_tables(tmp_path / "sonant.db")
        yield f"sqlite:///{tmp_path / 'sonant.db'}"
    else:
        with request.getfixturevalue("postgres_server").migrated() as url:
            yield url


class MakeCall(Protocol):
    def __call__(
        self,
        voice: str,
        seed: int,
        *,
        fresh: bool = False,
        net_speech_s: float = 35.0,
        duration_s: float | None = None,
        channels: int = 2,
        customer_channel: int = 0,
        snr_db: float = 30.0,
    ) -> bytes: ...


@pytest.fixture(scope="session")
def voices() -> dict[str, list[Path]]:
    """Clips of real people, by voice; fetched once a machine. `SONANT_SPEECH_CACHE` names another cache."""
    if not HAS_APT:
        pytest.skip(f"no real telephone speech, which comes as Debian packages: {NO_APT}")
    cache = Path(os.environ.get("SONANT_SPEECH_CACHE") or REPOSITORY / ".cache" / "speech")
    return fetch_voices(cache, progress=print)


@pytest.fixture(scope="session")
def make_call(voices: dict[str, list[Path]]) -> MakeCall:
    """WAV bytes of a call of one voice; another voice is the agent on the other channel.

    Calls with `fresh` share no clip with those without it, so one enrolls and the other compares.
    """
    names = list(voices)

    @lru_cache(maxsize=64)
    def make(
        voice: str,
        seed: int,
        *,
        fresh: bool = False,
        net_speech_s: float = 35.0,
        duration_s: float | None = None,
        channels: int = 2,
        customer_channel: int = 0,
        snr_db: float = 30.0,
    ) -> bytes:
        enrollment_clips, fresh_clips = split_clips(
            voices[voice], np.random.default_rng(zlib.crc32(voice.encode()))
        )
        return call_recording(
            fresh_clips if fresh else enrollment_clips,
            np.random.default_rng(seed),
            net_speech_s=net_speech_s,
            duration_s=duration_s,
            channels=channels,
            customer_channel=customer_channel,
            agent_clips=voices[names[(names.index(voice) + 1) % len(names)]],
            snr_db=snr_db,
        )

    return make
