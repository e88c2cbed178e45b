#!/usr/bin/env python3
"""Measure false accept rates at scores 80 and 90 for each kind of line.

    python tools/channel_classes.py --speech DIR --people LIST

LIST names files in DIR, one recording per person. A calibration is fitted on half of the people as
fit_calibration.py does, on random calls; the other half then call over one kind of line at a time, and the
share of strangers that reach a score is counted. Several random halvings, so that most pairs of people are
scored by calibrations fitted without them; intervals contain 95 % of resamplings of people.

Genuine callers below the greater score are counted between the two halves of a recording, over two calls:
that is optimistic.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent / "distil"))
from degrade import at_level, coded

from fit_calibration import fit, fit_strangers
from simulated_calls import (
    PROBE_S,
    SECOND_HALF,
    Call,
    call_over,
    narrow_call,
    read_recordings,
    simulate_calls,
)
from sonant.evaluation.channels import parse
from sonant.voice.calibration.fit import deviations
from sonant.voice.calibration.grid import MIN_COMPARISONS
from sonant.voice.calibration.model import Calibration, log10_far_of
from sonant.voice.models import load_models

Array = NDArray[np.float32]
Line = Callable[[Array, np.random.Generator], Array]

CLEAN, REFERENCE = "none", "G.711"
SCORES = (80, 90)
REACHED = [-NormalDist().inv_cdf(10 ** log10_far_of(score)) for score in SCORES]
"""Deviations above the mean of strangers."""
RESAMPLINGS = 1000


def simulated(text: str) -> Line:
    """Build a call over a line of the evaluation."""
    channel = parse(text)
    return lambda samples, rng: channel.apply(at_level(samples, -26), seed=(int(rng.integers(2**31)),))


def then(text: str, codec: str) -> Line:
    """Build a call over a line of the evaluation followed by a codec of the training calls."""
    channel = simulated(text)
    return lambda samples, rng: coded(channel(samples, rng), codec, rng)


LINES: dict[str, Line] = {
    CLEAN: simulated("clean"),
    REFERENCE: simulated("narrow+g711"),
    "GSM 06.10": simulated("narrow+gsm"),
    "CELP-like, AMR band": then("amr-band", "shaped"),
    "Opus": then("amr-band", "opus"),
    "ADPCM": then("narrow", "adpcm"),
    "G.711, 5 % of packets lost": simulated("narrow+g711+loss:5"),
    "GSM, 3 % lost": simulated("narrow+gsm+loss:3"),
    "G.711, pink noise at 15 dB": simulated("pink:15+narrow+g711"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder with one recording per person")
    parser.add_argument("--people", type=Path, required=True, help="names of files")
    parser.add_argument("--calls", type=int, default=3, help="random calls per recording for the fit [3]")
    parser.add_argument("--halvings", type=int, default=3, help="random halvings of the people [3]")
    parser.add_argument(
        "--least", type=int, default=MIN_COMPARISONS, help="comparisons needed for a level of noise"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    models = load_models()
    voices = [samples for _, samples in read_recordings(options.speech, options.people)]
    random_calls = simulate_calls(voices, models, options.calls, options.seed + 1)
    narrow_calls = simulate_calls(voices, models, options.calls, options.seed + 2, way=narrow_call)
    over: dict[str, list[Call]] = {}
    for number, (name, line) in enumerate(LINES.items()):
        found = []
        for person, clean in enumerate(voices):
            rng = np.random.default_rng([options.seed, person, number])
            one = call_over(person, line(clean, rng), models)
            found += [one] if one is not None else []
        over[name] = found
        print(f"{name}: {len(found)} calls", file=sys.stderr, flush=True)
    halves = [
        np.random.default_rng([options.seed, n]).permutation(len(voices)) for n in range(options.halvings)
    ]
    halvings = []
    for order in halves:
        for fitted, rest in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            known = set(fitted.tolist())
            with contextlib.redirect_stdout(sys.stderr):
                calibration, _ = fit(
                    [one for one in random_calls if one.person in known], models.encoder_id, options.least
                )
                highpass_calls = [one for one in narrow_calls if one.person in known and one.highpass_300hz]
                highpass_300hz = fit_strangers(
                    highpass_calls, models.encoder_id, options.least
                ).calibration.nodes
            halvings.append((replace(calibration, highpass_300hz=highpass_300hz), set(rest.tolist())))
    print(f"\n{len(voices)} people, {options.halvings} halvings\n")
    print(
        f"{'reference':28}{'probe':28}{'comparisons':>12}"
        + "".join(f"{f'FAR at {s}':>26}" for s in SCORES)
        + f"{f'FRR at {SCORES[-1]}':>18}"
    )
    for name in LINES:
        for reference in dict.fromkeys((name, REFERENCE, CLEAN)):
            print(
                f"{reference:28}{name:28}" + row(over[reference], over[name], halvings, len(voices)),
                flush=True,
            )


def row(
    references: list[Call], probes: list[Call], halvings: list[tuple[Calibration, set[int]]], people: int
) -> str:
    """Compute the number of comparisons and the false accept rate with its interval at each score."""
    total, passed = np.zeros((people, people)), np.zeros((len(SCORES), people, people))
    wholes = np.stack([one.whole for one in references])
    callers = np.array([one.person for one in references])
    for calibration, rest in halvings:
        known = np.isin(callers, list(rest))
        for probe in (one for one in probes if one.person in rest):
            who = known & (callers != probe.person)
            noise = np.array([min(one.snr_db, probe.snr_db) for one in references])[who]
            for seconds in (s for s in PROBE_S if s in probe.probes):
                similarity = (wholes[who] @ probe.probes[seconds]).astype(np.float64)
                lengths_s = np.full(len(similarity), seconds)
                z = deviations(calibration, similarity, lengths_s, noise, highpass_300hz=probe.highpass_300hz)
                total[callers[who], probe.person] += 1
                passed[:, callers[who], probe.person] += z >= np.array(REACHED)[:, None]
    text = f"{total.sum():12,.0f}"
    rng = np.random.default_rng(1)
    drawn = [np.bincount(rng.integers(people, size=people), minlength=people) for _ in range(RESAMPLINGS)]
    counts = [(weights @ total @ weights) for weights in drawn]
    for one in passed:
        rates = [(weights @ one @ weights) / count for weights, count in zip(drawn, counts, strict=True)]
        low, high = np.percentile(rates, [2.5, 97.5])
        text += f"{f'{100 * one.sum() / total.sum():.3f} % ({100 * low:.3f}-{100 * high:.3f})':>26}"
    rejected = _rejected(references, probes, halvings)
    return text + f"{f'{100 * np.mean(rejected):.1f} % of {len(rejected)}':>18}"


def _rejected(
    references: list[Call], probes: list[Call], halvings: list[tuple[Calibration, set[int]]]
) -> list[bool]:
    """Decide which calls fall short: their beginning against the second half of the same recording."""
    others = {one.person: one for one in references}
    found = []
    for calibration, rest in halvings:
        for probe in (one for one in probes if one.person in rest and max(PROBE_S) in one.probes):
            reference = others.get(probe.person)
            if reference is None:
                continue
            for seconds in (s for s in PROBE_S if 2 * s <= max(PROBE_S)):
                tail = calibration.tail(
                    seconds, min(reference.snr_db, probe.snr_db), highpass_300hz=probe.highpass_300hz
                )
                alike = float(reference.probes[SECOND_HALF] @ probe.probes[seconds])
                found.append(tail.deviations(alike) < REACHED[-1])
    return found


if __name__ == "__main__":
    main()
