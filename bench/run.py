#!/usr/bin/env python3
"""Run the benchmarks: `make bench`, or `python bench/run.py [--size SIZE] [--only PART ...] [--write-docs]`.

Prints one table of ratios, each with its target and verdict, and writes `.cache/bench/results.json`. Exits
with 1 if a ratio does not hold or could not be measured. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import describe
import doc_tables
import duplicates
import engine_ceiling
import enrollment
import fraud
import manifest
import search
import size
import speech_cpu
import streams
import vad
import wire
from report import CACHE, Outcome, Size, add_peers, add_size, machine, table, verdict, write

PARTS: dict[str, Callable[[Size, bool], Outcome]] = {
    "enrollment": enrollment.measure,
    "speech_cpu": speech_cpu.measure,
    "fraud": fraud.measure,
    "vad": vad.measure,
    "search": search.measure,
    "duplicates": duplicates.measure,
    "describe": describe.measure,
    "wire": wire.measure,
    "streams": streams.measure,
    "manifest": manifest.measure,
    "ceiling": engine_ceiling.measure,
    "size": size.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Sonant's benchmarks: ratios, each measured in one run.")
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part; may be repeated")
    add_size(parser)
    add_peers(parser)
    parser.add_argument("--results", type=Path, default=CACHE / "results.json", help="write all figures here")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="write the tables of the documents from the results file, of which all parts must be full ones",
    )
    arguments = parser.parse_args()
    before = machine()
    outcomes: dict[str, Outcome] = {}
    broken: list[str] = []
    for part in arguments.only or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            outcomes[part] = PARTS[part](arguments.size, arguments.peers)
        except Exception:  # noqa: BLE001 - what the other parts measured is still worth telling
            traceback.print_exc()
            broken.append(part)
        print(f"{part}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    ratios = [ratio for outcome in outcomes.values() for ratio in outcome.ratios]
    print(f"\n{machine()['cores']} cores, Python {machine()['python']}\n")
    print(table(ratios, arguments.size))
    results = write(arguments.results, outcomes, arguments.size, peers=arguments.peers, before=before)
    verdicts = [verdict(ratio, arguments.size) for ratio in ratios]
    held, missed = verdicts.count("holds"), verdicts.count("MISSED")
    print(f"\n{held} of {held + missed} ratios hold; details in {arguments.results}")
    if broken:
        print(f"could not be measured: {', '.join(broken)}")
    if arguments.write_docs:
        lacking = [part for part in PARTS if not is_full(results["parts"].get(part))]
        if lacking:
            print(f"the documents stay as they are: no full run of {', '.join(lacking)}")
            return 1
        doc_tables.write(results)
        print("wrote the tables of README.md and docs/benchmarks.md")
    return 1 if broken or missed else 0


def is_full(part: dict[str, Any] | None) -> bool:
    """Whether the documents may have it."""
    return part is not None and part["size"] == Size.FULL and part["peers"]


if __name__ == "__main__":
    sys.exit(main())
