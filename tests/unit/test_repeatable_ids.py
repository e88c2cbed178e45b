"""What a test draws at random is the same in every run; child processes draw from the operating system."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import subprocess
import sys
import uuid
from pathlib import Path

from waiting import PATIENCE_S

SUPPORT = Path(__file__).parents[1] / "support"
SUITE = """
import os
import secrets
import uuid

def test_one():
    print("drawn", uuid.uuid4().hex, secrets.token_hex(16), os.urandom(16).hex())

def test_other():
    print("drawn", uuid.uuid4().hex, secrets.token_hex(16), os.urandom(16).hex())
"""


def drawn(folder: Path, seed: str) -> list[str]:
    """All that the tests of the suite draw."""
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "repeatable_ids", "-s", "-q", folder],
        env={**kept, "PYTHONPATH": str(SUPPORT), "SONANT_TESTS_SEED": seed, **alone},
        capture_output=True, text=True, timeout=PATIENCE_S, cwd=folder, check=True,
    )  # fmt: skip
    return [word for line in done.stdout.splitlines() if "drawn" in line for word in line.split()[-3:]]


def test_a_run_draws_what_the_last_one_drew(tmp_path):
    first = drawn(tmp_path, "0")
    assert len(set(first)) == 6
    assert drawn(tmp_path, "0") == first
    assert not set(drawn(tmp_path, "1")) & set(first)


def test_children_draw_from_the_operating_system():
    context = multiprocessing.get_context("fork")
    seen = []
    for _ in range(2):
        receiving, sending = context.Pipe(duplex=False)
        child = context.Process(
            target=lambda to=sending: to.send((uuid.uuid4(), secrets.token_hex(16), os.urandom(16)))
        )
        child.start()
        seen += receiving.recv()
        child.join()
    assert len(set(seen)) == 6
