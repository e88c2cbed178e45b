#!/usr/bin/env python3
"""Measure false alerts of the known-fraudster risk against lists of up to 500 voices.

    python tools/fraud_lists.py --speech DIR --people LIST --others LIST

LIST names files in DIR, one recording per person. The people call, each over several random telephone lines.
The lists hold all others of them, the voices of LIST `--others`, who do not call (the encoder may have been
trained on them), and synthetic voices where these are too few (`evaluation.false_alerts`).

A calibration is fitted on one half of the people as fit_calibration.py does; the other half calls, and no one
of the first half is on a list. Several random halvings: their spread shows the uncertainty of fifty people.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fit_calibration import fit, fit_strangers
from simulated_calls import Call, narrow_call, read_recordings, simulate_calls
from sonant.evaluation.false_alerts import PersonVoice, false_alerts
from sonant.voice.calibration.grid import MIN_COMPARISONS
from sonant.voice.models import load_models
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

SIZES = (10, 50, 100, 200, 500)
CALL_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder with one recording per person")
    parser.add_argument("--people", type=Path, required=True, help="names of files: the callers")
    parser.add_argument("--others", type=Path, required=True, help="names of files: people on lists only")
    parser.add_argument("--calls", type=int, default=4, help="random calls per recording [4]")
    parser.add_argument("--halvings", type=int, default=3, help="random halvings of the people [3]")
    parser.add_argument(
        "--least", type=int, default=MIN_COMPARISONS, help="comparisons needed for a level of noise"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    models = load_models()
    people, others = (
        [samples for _, samples in read_recordings(options.speech, names)]
        for names in (options.people, options.others)
    )
    calls = simulate_calls(people, models, options.calls, options.seed + 1)
    narrow_calls = simulate_calls(people, models, options.calls, options.seed + 2, way=narrow_call)
    listed = simulate_calls(others, models, 2, options.seed + 3)
    listed = [replace(one, person=one.person + len(people)) for one in listed]
    runs = []
    for number in range(options.halvings):
        order = np.random.default_rng([options.seed, number]).permutation(len(people))
        for known in (set(order[::2].tolist()), set(order[1::2].tolist())):
            fitted = [one for one in calls if one.person in known]
            rest = [one for one in calls if one.person not in known]
            with contextlib.redirect_stdout(sys.stderr):
                calibration, _ = fit(fitted, models.encoder_id, options.least)
                highpass_calls = [one for one in narrow_calls if one.person in known and one.highpass_300hz]
                highpass_300hz = fit_strangers(
                    highpass_calls, models.encoder_id, options.least
                ).calibration.nodes
            found = false_alerts(
                voices(rest, CALL_S, models.encoder_id),
                voices(rest + listed, None, models.encoder_id),
                replace(calibration, highpass_300hz=highpass_300hz),
                SIZES,
                seed=options.seed,
                replicates=0,
            )
            runs.append(found)
            print(", ".join(f"{one.share:.2%} of {one.size}" for one in found), file=sys.stderr, flush=True)
    print(f"\n{options.halvings} halvings of {len(people)} people, {len(others)} more on lists\n")
    print("list  real  flagged (meant 1 %)  half of the halvings lie in")
    for place, size in enumerate(SIZES):
        shares = [found[place].share for found in runs]
        low, high = np.percentile(shares, [25, 75])
        print(
            f"{size:4d} {runs[0][place].real_on_list:5.0f}  {np.mean(shares):19.2%}  {low:.2%} - {high:.2%}"
        )
    first = runs[0][0]
    print(
        f"\ncomparisons at 1 % by the first calibration: {first.real_share:.2%} with real "
        f"voices, {first.made_share:.2%} with synthetic ones"
    )


def voices(calls: Sequence[Call], speech_s: float | None, model_id: str) -> list[PersonVoice]:
    """Take this much speech of each call, or with None all of it, as for a fraudster."""
    return [
        PersonVoice(
            person=one.person,
            group=one.person,
            sample=VoiceSample(
                model_id=model_id,
                vector=one.whole if speech_s is None else one.probes[speech_s],
                quality=Quality(
                    net_speech_s=CALL_S if speech_s is None else speech_s,
                    snr_db=one.snr_db,
                    highpass_300hz=one.highpass_300hz,
                ),
            ),
        )
        for one in calls
        if speech_s is None or speech_s in one.probes
    ]


if __name__ == "__main__":
    main()
