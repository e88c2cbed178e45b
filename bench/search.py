"""Part `search`: the nearest of many known voices, against faiss and usearch, one thread each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import environment
from report import ROOT, Outcome, Ratio

SIZES, QUICK_SIZES = (500, 10_000, 1_000_000), (500, 10_000, 100_000)
REQUIREMENTS = (("faiss-cpu>=1.10", "usearch>=2.16", "numpy>=2"),)
PEERS = {"faiss": "faiss IndexFlatIP", "usearch": "usearch exact"}
#: Everybody is measured this often, in turns; the best counts.
ROUNDS = 2


def measure(*, quick: bool) -> Outcome:
    peers = environment("search-venv", *REQUIREMENTS)
    ratios, details = [], {}
    for size in QUICK_SIZES if quick else SIZES:
        rounds: dict[str, list[dict[str, Any]]] = {"sonant": [], **{name: [] for name in PEERS}}
        for _ in range(ROUNDS):
            for who, found in rounds.items():
                found.append(_run(Path(sys.executable) if who == "sonant" else peers, who, size))
        nearest = rounds["sonant"][0]["nearest"]
        for who, found in rounds.items():
            if any(one["nearest"] != nearest for one in found):
                raise RuntimeError(f"{who} and sonant do not find the same voices among {size}")
        best = {
            who: {asked: min(one["ms"][asked] for one in found) for asked in found[0]["ms"]}
            for who, found in rounds.items()
        }
        details[str(size)] = {
            "ms": best,
            "build_s": {who: found[0]["build_s"] for who, found in rounds.items()},
        }
        for asked, ms in best["sonant"].items():
            for who, name in PEERS.items():
                ratios.append(
                    Ratio(
                        part="search",
                        name=f"{name} / Sonant, {size:,} voices, {asked} at a time",
                        ours=best[who][asked],
                        theirs=ms,
                        unit="ms",
                        target=1.0,
                        at_least=True,
                    )
                )
    return Outcome(ratios=ratios, details=details)


def _run(python: Path, who: str, size: int) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("search_one.py")), who, str(size)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            **dict.fromkeys(names, "1"),
            **({"PYTHONPATH": str(ROOT / "src")} if who == "sonant" else {}),
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(done.stdout))
