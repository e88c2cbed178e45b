#!/usr/bin/env python3
"""Run the benchmarks: `make bench`, or `python bench/run.py [--quick] [--only PART ...]`.

Prints one table of ratios, each with its target and verdict, and writes `.cache/bench/results.json`. Exits
with 1 if a ratio does not hold or could not be measured. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback

from report import CACHE, Outcome, machine, table, write

PARTS = (
    "enrollment",
    "speech_cpu",
    "fraud",
    "vad",
    "search",
    "duplicates",
    "describe",
    "wire",
    "streams",
    "manifest",
    "size",
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Sonant's benchmarks: ratios, each measured in one run.")
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part; may be repeated")
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes: a minute or two, rougher figures"
    )
    arguments = parser.parse_args()
    outcomes: dict[str, Outcome] = {}
    broken: list[str] = []
    for part in arguments.only or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            outcomes[part] = importlib.import_module(part).measure(quick=arguments.quick)
        except Exception:  # noqa: BLE001 - what the other parts measured is still worth telling
            traceback.print_exc()
            broken.append(part)
        print(f"{part}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    ratios = [ratio for outcome in outcomes.values() for ratio in outcome.ratios]
    print(f"\n{machine()['cores']} cores, Python {machine()['python']}\n")
    print(table(ratios))
    results = CACHE / "results.json"
    write(results, outcomes, quick=arguments.quick)
    missed = [ratio for ratio in ratios if not ratio.holds]
    print(f"\n{len(ratios) - len(missed)} of {len(ratios)} ratios hold; details in {results}")
    if broken:
        print(f"could not be measured: {', '.join(broken)}")
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
