"""Part `search`: the most similar of many known voices, against faiss and usearch, one thread each.

Watchlists hold at most some hundred voices, so these are the sizes with a target; 10,000 voices are measured
as well, to show how the exact search grows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import environment
from processes import ONE_THREAD
from report import ROOT, Outcome, Ratio, Size

REQUIREMENTS = (("faiss-cpu>=1.10", "usearch>=2.16", "numpy>=2"),)
TARGET_VOICES = 1_500
"""The longest lists that quotas allow: longer ones are measured without a target."""
PEERS = {"faiss": "faiss IndexFlatIP", "usearch": "usearch exact"}


def measure(size: Size, peers: bool) -> Outcome:
    pythons = {"sonant": Path(sys.executable)}
    if peers:
        pythons |= dict.fromkeys(PEERS, environment("search-venv", *REQUIREMENTS))
    seconds = size.pick(2.0, 2.0, 0.1)
    ratios, details = [], {}
    for count in size.pick((500, 1_500, 10_000), (500, 1_500, 10_000), (500,)):
        rounds: dict[str, list[dict[str, Any]]] = {who: [] for who in pythons}
        # Each one twice, in turns; the best counts.
        for _ in range(2):
            for who, python in pythons.items():
                rounds[who].append(_run(python, who, count, seconds))
        nearest = rounds["sonant"][0]["nearest"]
        for who, found in rounds.items():
            if any(one["nearest"] != nearest for one in found):
                raise RuntimeError(f"{who} and sonant find different voices among {count}")
        best = {
            who: {asked: min(one["ms"][asked] for one in found) for asked in found[0]["ms"]}
            for who, found in rounds.items()
        }
        details[str(count)] = {
            "ms": best,
            "build_s": {who: found[0]["build_s"] for who, found in rounds.items()},
        }
        for asked, ms in best["sonant"].items():
            for who, name in PEERS.items() if peers else ():
                ratios.append(
                    Ratio(
                        part="search",
                        name=f"{name} / Sonant, {count:,} voices, {asked} at a time",
                        ours=best[who][asked],
                        theirs=ms,
                        unit="ms",
                        target=1.0 if count <= TARGET_VOICES else 0.0,
                        at_least=True,
                    )
                )
    return Outcome(ratios=ratios, details=details)


def _run(python: Path, who: str, count: int, seconds: float) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("search_one.py")), who, str(count), str(seconds)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            **ONE_THREAD,
            **({"PYTHONPATH": str(ROOT / "src")} if who == "sonant" else {}),
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(done.stdout))
