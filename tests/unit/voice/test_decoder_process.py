"""The decoder process: what it may do, and what becomes of a recording that it does not survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from waiting import alive, wait_until

from sonant.errors import AudioError
from sonant.voice.audio.decoding import process
from sonant.voice.audio.decoding.process import POOL, DecoderProcess
from sonant.voice.audio.recording import Recording, decode
from sonant.voice.audio.test_signal import voice_like_signal

SIGNAL = voice_like_signal(8000, 30.0)
#: Runs `{0}` in the decoder whenever a recording is opened.
FAULTY = """\
import json, os, signal, socket, sys, time
sys.path[:] = json.loads(sys.argv[1])
from sonant.voice.audio.decoding import child, limits
limits.CPU_S = 1.0
def open(data, strict):
    {0}
    raise AssertionError("the fault did not happen")
class Format:
    name = "FLAC"
Format.open = staticmethod(open)
child.FORMATS = (Format,)
child.main()
"""


@pytest.fixture(autouse=True)
def _fresh_decoders():
    POOL.close()
    yield
    POOL.close()


@pytest.fixture
def flac(encoded):
    return encoded(SIGNAL, 8000, "FLAC", "PCM_16")


def read(data):
    return decode(data, channel=0, strict=False, max_duration_s=60.0).samples


def refusal(data):
    with pytest.raises(AudioError) as caught:
        read(data)
    return str(caught.value)


@pytest.fixture
def faulty(monkeypatch):
    """Make decoders run a statement whenever they open a recording."""
    return lambda statement: monkeypatch.setattr(process, "BOOT", FAULTY.format(statement))


def decoder_of(flac) -> int:
    """The process id of the only idle decoder, after a recording."""
    read(flac)
    one = POOL.take()
    POOL.give_back(one)
    return one.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="a decoder is closed to other processes of its user")
def test_decoder_has_no_environment_and_no_descriptor_but_its_socket(flac, monkeypatch):
    monkeypatch.setenv("SONANT_SECRET", "a key")
    pid = decoder_of(flac)

    environment = Path(f"/proc/{pid}/environ").read_bytes()
    descriptors = {one.name: str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}

    assert b"SONANT" not in environment
    assert b"a key" not in environment
    assert descriptors.pop("0").startswith("socket:")
    assert descriptors == {"1": "/dev/null", "2": "/dev/null"}


def test_decoder_may_open_nothing_and_has_bounded_memory_and_time(flac):
    limits = Path(f"/proc/{decoder_of(flac)}/limits").read_text()

    soft = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()[1:]}
    for name in ("Max open files", "Max processes", "Max file size", "Max core file size"):
        assert soft[name] == "0", name
    # Between recordings there is room to receive the largest one: four times a GiB, and what it has loaded.
    assert int(soft["Max address space"]) < 5 * 2**30
    assert int(soft["Max cpu time"]) < 60


@pytest.mark.parametrize(
    "statement",
    ["socket.socket()", "os.open('/etc/passwd', os.O_RDONLY)", "os.pipe()"],
    ids=["socket", "file", "pipe"],
)
def test_decoder_that_opens_a_descriptor_fails(flac, faulty, statement):
    faulty(statement)

    assert refusal(flac) == "cannot be decoded: the decoder fails (unexpected OSError)"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("os._exit(3)", "ended with code 3"),
        ("bytearray(2**33)", "more than 256 MiB of memory needed"),
    ],
    ids=["crash", "exit", "memory"],
)
def test_recording_that_ends_its_decoder_is_refused(flac, faulty, statement, said):
    faulty(statement)

    assert refusal(flac) == f"cannot be decoded: the decoder fails ({said})"


def test_recording_that_computes_without_end_is_refused(flac, faulty):
    faulty("while True: pass")

    assert refusal(flac) == "cannot be decoded: takes more than 30 s of processor time"


def test_a_callers_limit_of_processor_time_replaces_the_one_that_grows():
    script = (
        "import resource\n"
        "from sonant.voice.audio.decoding.limits import Limits\n"
        "held = Limits()\n"
        "for cpu_s in (None, 3.0):\n"
        "    held.begin(0, cpu_s)\n"
        "    begun, _ = resource.getrlimit(resource.RLIMIT_CPU)\n"
        "    held.decoded(10_000.0)\n"
        "    later, _ = resource.getrlimit(resource.RLIMIT_CPU)\n"
        "    print(begun, later - begun)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (own, grown), (callers, not_grown) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert own - callers in (26, 27)
    assert (grown, not_grown) == (500, 0)


def test_what_libraries_write_to_standard_error_is_discarded(flac, faulty, capfd):
    faulty("os.write(2, b'words of a recording'); os._exit(1)")

    refusal(flac)

    assert "words of a recording" not in "".join(capfd.readouterr())


def test_recordings_after_a_fault_are_read_by_a_new_decoder(flac, faulty, monkeypatch):
    boot = process.BOOT
    faulty("os.kill(os.getpid(), signal.SIGSEGV)")
    refusal(flac)

    monkeypatch.setattr(process, "BOOT", boot)

    np.testing.assert_allclose(read(flac), SIGNAL, atol=1e-4)


def test_decoder_killed_between_two_blocks_is_replaced_without_loss(flac, monkeypatch):
    blocks = Recording.open(flac, channel=0, strict=False, max_duration_s=60.0).blocks()
    taken: list[DecoderProcess] = []
    take = POOL.take

    def noted(held=None):
        taken.append(take(held))
        return taken[-1]

    monkeypatch.setattr(POOL, "take", noted)
    found = [next(blocks)]
    os.kill(taken[0].pid, signal.SIGKILL)
    found += list(blocks)

    assert len(taken) == 2
    np.testing.assert_allclose(np.concatenate(found), SIGNAL, atol=1e-4)


def test_idle_decoders_that_were_killed_are_replaced(flac):
    processes = [POOL.take(), POOL.take()]
    for one in processes:
        POOL.give_back(one)
        os.kill(one.pid, signal.SIGKILL)

    wait_until("both end", lambda: not any(alive(one.pid) for one in processes))

    np.testing.assert_allclose(read(flac), SIGNAL, atol=1e-4)


def test_one_decoder_reads_all_recordings_of_a_thread(flac):
    assert len({decoder_of(flac) for _ in range(5)}) == 1


def test_recordings_that_are_read_at_the_same_time_have_a_decoder_each(flac):
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(read(flac))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(found) == 4
    for samples in found:
        np.testing.assert_allclose(samples, SIGNAL, atol=1e-4)


def test_recording_that_is_not_read_to_its_end_does_not_disturb_the_next(flac, encoded):
    other = encoded(SIGNAL[::-1].copy(), 8000, "FLAC", "PCM_16")
    for data, samples in ((flac, SIGNAL), (other, SIGNAL[::-1])) * 2:
        blocks = Recording.open(data, channel=0, strict=False, max_duration_s=60.0).blocks()
        block = next(blocks)
        del blocks

        np.testing.assert_allclose(block, samples[: len(block)], atol=1e-4)


def test_plain_wav_is_read_without_a_decoder(encoded, faulty):
    faulty("os._exit(1)")

    assert len(read(encoded(SIGNAL))) == len(SIGNAL)


def test_decoder_ends_with_its_parent(flac, tmp_path):
    (tmp_path / "a.flac").write_bytes(flac)
    script = (
        "import os, sys\n"
        "from sonant.voice import decode\n"
        "from sonant.voice.audio.decoding.process import POOL\n"
        "decode(sys.argv[1]); print(POOL.take().pid, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.flac")], capture_output=True, text=True, check=True
    )

    wait_until("the decoder ends", lambda: not Path(f"/proc/{int(done.stdout)}").exists())


@pytest.mark.slow
def test_memory_of_a_decoder_is_flat_for_long_recordings(encoded):
    """Half an hour in a stream that compresses to little."""
    data = encoded(np.zeros(8000 * 1800, np.float32), 8000, "FLAC", "PCM_16")
    before = peak_bytes(decoder_of(encoded(SIGNAL, 8000, "FLAC", "PCM_16")))

    for _ in Recording.open(data, channel=0, strict=False, max_duration_s=3600.0).blocks():
        pass

    one = POOL.take()
    POOL.give_back(one)
    assert peak_bytes(one.pid) - before < 20_000_000


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (one for one in lines if one.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
