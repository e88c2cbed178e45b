"""What the tests' own servers run by: a start that fails says why, and nothing of the machine leaks in."""

from __future__ import annotations

import sys
from pathlib import Path

import ceph_server
import pytest
from aws_servers import await_port, free_port, running, started
from ceph_server import NoCeph
from debian_source import DebianSource, debian_source, needs_apt
from waiting import PATIENCE_S, in_time

PYTHON = [sys.executable, "-I", "-S", "-c"]
SLEEPS = [*PYTHON, "import signal; signal.pause()"]


def test_a_program_that_ends_at_its_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    says = [*PYTHON, "for n in range(1000): print(f'line {n}', flush=True)\nraise SystemExit(3)"]
    with (
        started(says, log=tmp_path / "log") as program,
        pytest.raises(AssertionError, match=r"ended with 3(\nline 9\d\d)+$") as told,
    ):
        await_port(program, free_port(), 30)
    assert "line 979" not in str(told.value)


def test_a_program_that_does_not_listen_in_time_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("waiting for the store\n")
    with (
        started(SLEEPS, log=tmp_path / "log") as program,
        pytest.raises(AssertionError, match=r"does not listen\nwaiting for the store"),
    ):
        await_port(program, free_port(), 0.2)


def test_who_waits_for_a_program_that_ended_is_told_at_once(tmp_path: Path) -> None:
    with (
        started([*PYTHON, "raise SystemExit('no memory')"], log=tmp_path / "log") as store,
        started(SLEEPS) as gateway,
        pytest.raises(AssertionError, match="ended with 1\nno memory"),
    ):
        in_time("it is told", lambda: await_port(gateway, free_port(), 3600, [store]))


def test_a_given_environment_is_the_whole_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CEPH_ARGS", "--of-the-machine")
    tells = [*PYTHON, "import os; print(sorted(os.environ))"]
    with started(tells, env={"port": "x", "LC_ALL": "C"}, log=tmp_path / "given") as program:
        program.process.wait(PATIENCE_S)
    assert (tmp_path / "given").read_text() == "['LC_ALL', 'port']\n"
    with started(tells, log=tmp_path / "own") as program:
        program.process.wait(PATIENCE_S)
    assert "CEPH_ARGS" in (tmp_path / "own").read_text()


def test_a_server_gets_its_environment_whatever_the_names(tmp_path: Path) -> None:
    port = free_port()
    serves = (
        "import os, signal, socket\n"
        "server = socket.create_server(('127.0.0.1', int(os.environ['command'])))\n"
        "signal.pause()"
    )
    with running([*PYTHON, serves], port, env={"command": str(port), "LC_ALL": "C"}) as url:
        assert url == f"http://127.0.0.1:{port}"


# --- Ceph's packages


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianSource:
    """A Ceph of two packages, the first of which is there."""
    monkeypatch.setattr(ceph_server, "_PACKAGES", {"ceph-mon", "radosgw"})
    monkeypatch.setattr(ceph_server, "_PROGRAMS", ("ceph-mon", "radosgw"))
    made = debian_source(tmp_path, monkeypatch)
    made.carry("ceph-mon", "1.0", {"usr/bin/ceph-mon": "", "usr/lib/here/ceph/library": ""})
    return made


@needs_apt
def test_a_tree_that_lacks_a_program_is_not_kept(source: DebianSource, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(NoCeph, match=r"lack radosgw$"):
        ceph_server._fetched(cache)
    assert [found.name for found in cache.iterdir()] == ["ceph.lock"]
    source.carry("radosgw", "1.0", {"usr/bin/radosgw": ""})
    tree = ceph_server._fetched(cache)
    assert (tree / "usr/bin/radosgw").is_file()


@needs_apt
def test_a_changed_list_of_packages_is_fetched_anew(
    source: DebianSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.carry("radosgw", "1.0", {"usr/bin/radosgw": ""})
    first = ceph_server._fetched(tmp_path / "cache")
    assert ceph_server._fetched(tmp_path / "cache") == first
    source.carry("more", "1.0", {"usr/bin/more": ""})
    monkeypatch.setattr(ceph_server, "_PACKAGES", {"ceph-mon", "radosgw", "more"})
    second = ceph_server._fetched(tmp_path / "cache")
    assert (second / "usr/bin/more").is_file()
    assert not (first / "usr/bin/more").exists()
