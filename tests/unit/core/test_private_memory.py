"""Memory that holds keys: not dumped, and not read by other processes of the same user."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import sonant
from sonant.gateway.descriptors import descriptors_in_use
from sonant.private_memory import forbid_reading, is_readable, protect_memory
from sonant.settings import Settings
from sonant.storage.backends import local_accounts, open_backends
from sonant.storage.times import now

SOURCE = Path(sonant.__file__).parent
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
NOBODY = 65534
PR_SET_DUMPABLE = 4


def in_a_process(function, *arguments):
    """Run a function in a forked process, so that nothing outlasts the test; return its text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = str(function(*arguments))
        except BaseException as fault:  # noqa: BLE001 - told to the parent
            said = f"{type(fault).__name__}: {fault}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@ONLY_LINUX
def test_process_that_opens_keys_is_not_dumped(tmp_path):
    def opened(open_keys):
        open_keys(Settings(data=tmp_path / "data"))
        return f"{is_readable()} {resource.getrlimit(resource.RLIMIT_CORE)}"

    for open_keys in (open_backends, lambda settings: local_accounts(settings, now)):
        assert in_a_process(opened, open_keys) == "False (0, 0)"


@ONLY_LINUX
def test_setting_allows_debuggers(tmp_path):
    def opened():
        before = is_readable()
        open_backends(Settings(data=tmp_path / "data", core_dumps=True))
        return is_readable() == before

    assert in_a_process(opened) == "True"


def test_no_module_makes_a_store_of_keys_without_protecting_memory():
    """`LocalAccounts` reads the files of keys, and `open_store` makes one before it reads service.key."""
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"(?<!class )\bLocalAccounts\(", path.read_text())
    }
    assert found == {"storage/backends.py"}


@ONLY_LINUX
def test_decoder_process_is_not_read_by_others():
    source = (SOURCE / "voice/audio/decoding/child.py").read_text()
    assert "forbid_reading()" in source[source.index("def main") : source.index("class _Decoder")]


@ONLY_LINUX
@pytest.mark.skipif(os.geteuid() != 0, reason="root reads everything: the test becomes another user")
def test_other_process_of_the_user_cannot_read_the_memory():
    def read_the_memory_of(pid):
        try:
            Path(f"/proc/{pid}/mem").open("rb").close()
        except PermissionError:
            return "refused"
        return "read"

    def attacked(protect):
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        # A process that has changed its user is not readable until it starts a program: undone here.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if protect:
            forbid_reading()
        return in_a_process(read_the_memory_of, os.getpid())

    assert in_a_process(attacked, False) == "read"
    assert in_a_process(attacked, True) == "refused"


@ONLY_LINUX
def test_memory_is_locked_only_without_a_limit():
    def lock(limit):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        protect_memory(core_dumps=True, lock=True)

    said = in_a_process(lock, 65536)
    assert said.startswith("SetupError: lock_memory: memory cannot be locked (the limit is 65536 bytes)")
    assert "LimitMEMLOCK=infinity" in said


@ONLY_LINUX
def test_own_descriptors_can_still_be_counted():
    """A process that is not readable may look at itself."""

    def counted():
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        forbid_reading()
        return descriptors_in_use() is not None

    assert in_a_process(counted) == "True"


def test_limit_is_inherited_by_programs_that_are_started():
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"

    def started():
        forbid_reading()
        return subprocess.check_output([sys.executable, "-c", script], text=True).strip()

    assert in_a_process(started) == "(0, 0)"
