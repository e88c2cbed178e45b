"""The helpers that start the tests' own servers: a failed start shows why, its environment is as given."""

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
SLEEP = [*PYTHON, "import signal; signal.pause()"]


def test_program_that_ends_at_its_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    command = [*PYTHON, "for n in range(1000): print(f'line {n}', flush=True)\nraise SystemExit(3)"]
    with (
        started(command, log=tmp_path / "log") as program,
        pytest.raises(AssertionError, match=r"ended with 3(\nline 9\d\d)+$") as failure,
    ):
        await_port(program, free_port(), 30)
    assert "line 979" not in str(failure.value)


def test_program_that_does_not_listen_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("waiting for the store\n")
    with (
        started(SLEEP, log=tmp_path / "log") as program,
        pytest.raises(AssertionError, match=r"does not listen\nwaiting for the store"),
    ):
        await_port(program, free_port(), 0.2)


def test_wait_for_a_program_that_ended_fails_at_once(tmp_path: Path) -> None:
    with (
        started([*PYTHON, "raise SystemExit('no memory')"], log=tmp_path / "log") as store,
        started(SLEEP) as gateway,
        pytest.raises(AssertionError, match="ended with 1\nno memory"),
    ):
        in_time("the wait fails", lambda: await_port(gateway, free_port(), 3600, [store]))


def test_given_environment_replaces_the_machines_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CEPH_ARGS", "--of-the-machine")
    command = [*PYTHON, "import os; print(sorted(os.environ))"]
    with started(command, env={"port": "x", "LC_ALL": "C"}, log=tmp_path / "given") as program:
        program.process.wait(PATIENCE_S)
    assert (tmp_path / "given").read_text() == "['LC_ALL', 'port']\n"
    with started(command, log=tmp_path / "own") as program:
        program.process.wait(PATIENCE_S)
    assert "CEPH_ARGS" in (tmp_path / "own").read_text()


def test_server_gets_variables_of_any_name(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import os, signal, socket\n"
        "server = socket.create_server(('127.0.0.1', int(os.environ['command'])))\n"
        "signal.pause()"
    )
    with running([*PYTHON, code], port, env={"command": str(port), "LC_ALL": "C"}) as url:
        assert url == f"http://127.0.0.1:{port}"


# --- Ceph's packages


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianSource:
    """A package source with the first of two packages of a Ceph."""
    monkeypatch.setattr(ceph_server, "_PACKAGES", {"ceph-mon", "radosgw"})
    monkeypatch.setattr(ceph_server, "_PROGRAMS", ("ceph-mon", "radosgw"))
    packages = debian_source(tmp_path, monkeypatch)
    packages.carry("ceph-mon", "1.0", {"usr/bin/ceph-mon": "", "usr/lib/here/ceph/library": ""})
    return packages


@needs_apt
def test_tree_without_a_program_is_not_cached(source: DebianSource, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(NoCeph, match=r"lack radosgw$"):
        ceph_server._fetched(cache)
    assert [found.name for found in cache.iterdir()] == ["ceph.lock"]
    source.carry("radosgw", "1.0", {"usr/bin/radosgw": ""})
    tree = ceph_server._fetched(cache)
    assert (tree / "usr/bin/radosgw").is_file()


@needs_apt
def test_changed_list_of_packages_is_fetched_again(
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
