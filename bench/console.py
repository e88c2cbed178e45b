"""Measure the console on a large domain: server time of first pages, in one process without a network.

    python bench/console.py [--speakers 100000] [--calls 1000000] [--rounds 5]

All but the newest rows are written past the service, as raw rows without codes: no page shows them, and every
count and every index has them.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from console_testbed import ConsoleTestbed, Person, console_on

#: Rows that are written by operations, and so are shown on first pages.
NEWEST = 60
PAGES = (
    "",
    "/calls",
    "/calls?voice=REJECT",
    "/calls?fraud=HIGH_RISK",
    "/speakers",
    "/fraud",
    "/jobs",
    "/audit",
)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Measure the console's pages on a large domain.")
    parser.add_argument("--speakers", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, console_on(Path(folder) / "data") as console:
        _write_shown(console)
        _write_bulk(console, given.speakers, given.calls)
        print(f"{given.speakers} speakers, {given.calls} calls with two decisions each")
        print("page, median ms, slowest ms")
        person = console.person()
        for path in PAGES:
            times = [_load_ms(person, path) for _ in range(given.rounds + 1)][1:]
            print(f"{path or '/':28} {statistics.median(times):7.1f} {max(times):7.1f}")


def _load_ms(person: Person, path: str) -> float:
    begun_s = time.perf_counter()
    shown = person.get(path)
    assert shown.status_code == 200, shown.text
    return 1000 * (time.perf_counter() - begun_s)


def _write_shown(console: ConsoleTestbed) -> None:
    """Write the rows of first pages by operations. Speakers are listed oldest first, calls newest first."""
    for number in range(NEWEST):
        console.call("OptOutSpeaker", SpeakerId=f"first-{number}")
    console.pass_time(days=1)
    for number in range(NEWEST):
        console.pass_time(seconds=1)
        console.call("StartSession", SessionName=f"newest-{number}", SpeakerId=f"first-{number}")
        console.call("EvaluateSession", SessionNameOrId=f"newest-{number}")
        console.call("EndStream", SessionNameOrId=f"newest-{number}")


def _write_bulk(console: ConsoleTestbed, speakers: int, calls: int) -> None:
    """Write raw copies of these rows: speakers afterwards, calls over the 24 hours before."""
    file = sqlite3.connect(console.store.settings.data / "sonant.db")
    now_us = int(console.clock().timestamp() * 1e6)
    began = f"{now_us - 3_600_000_000} - i * {86_000_000_000 // max(calls, 1)}"
    hashed = {"created_at": f"{now_us} + i", "customer_id_hash": "randomblob(32)"}
    _copy(file, "speakers", "speaker_id", speakers, hashed)
    _copy(file, "sessions", "session_id", calls, {"created_at": began, "name": "'bulk-' || i"})
    for purpose, decision in (
        ("AUTHENTICATION", "iif(i % 10 < 8, 'ACCEPT', 'NOT_ENOUGH_SPEECH')"),
        ("FRAUD", "iif(i % 10 < 9, 'LOW_RISK', 'NOT_ENOUGH_SPEECH')"),
    ):
        made = {"purpose": f"'{purpose}'", "decision": decision, "decided_at": began}
        _copy(file, "session_results", "session_id", calls, made)
    file.close()


def _copy(file: sqlite3.Connection, table: str, key: str, count: int, changed: Mapping[str, str]) -> None:
    """Insert copies of a table's first row, numbered by `i`, with a key of their own and these columns."""
    names = [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
    made = {"row_mac": "NULL", key: "'id#' || printf('%022d', i)", **changed}
    values = ", ".join(made.get(name, f"first.{name}") for name in names)
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1})"
    with file:
        file.execute(
            f"INSERT INTO {table} ({', '.join(names)}) {numbers} "
            f"SELECT {values} FROM n, (SELECT * FROM {table} LIMIT 1) AS first"
        )


if __name__ == "__main__":
    main()
