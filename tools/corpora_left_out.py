#!/usr/bin/env python3
"""Measure a voice model's scale on people of corpora that its fit has not used.

    python tools/corpora_left_out.py --speech DIR --people LIST --cohort LIST --model ID [--calls-file FILE]

LIST names files in DIR, one recording per person; the corpus is the part of the name before the first `-`.
Each corpus in turn is left out: centre and both grids are fitted on the others as fit_calibration.py fits
them (--shared-lines --within-corpora), and strangers of the corpus are scored. Their comparisons over one
line are counted apart from all: strangers on one line, who say the same words in some corpora, are more
alike.
With --adjust the shipped calibration is adjusted to the others as there, instead of fitted.

Genuine callers below the greater score are counted between the beginning and the second half of a recording,
over two calls: that is optimistic. Intervals contain 95 % of resamplings of people.

--calls-file keeps the embedded calls, which take nearly all of the time, for another run.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fit_calibration import MODELS, adjusted, compare_strangers, fit, fit_strangers
from simulated_calls import (
    SECOND_HALF,
    Array,
    Call,
    Way,
    centre_of,
    centred,
    kept_calls,
    narrow_call,
    read_recordings,
    simulate_calls,
    uncentred_embedder,
)
from sonant.voice.calibration.file import calibration_of
from sonant.voice.calibration.fit import deviations
from sonant.voice.calibration.grid import MIN_COMPARISONS, ComparisonTable
from sonant.voice.calibration.model import Calibration, log10_far_of
from sonant.voice.models import Models, load_models, shipped_encoder_id
from sonant.voice.models.packaged import packaged_encoder_ids, packaged_entry

SCORES = (80, 90)
REACHED = [-NormalDist().inv_cdf(10 ** log10_far_of(score)) for score in SCORES]
"""Deviations above the mean of strangers."""
RESAMPLINGS = 1000
GENUINE_S = 5.0
NARROW = 100
"""The numbers of lines of 300-3400 Hz begin here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The calls of all people, embedded without a centre, and who they are."""

    calls: list[Call]
    cohort: list[Call]
    corpus_of: list[str]
    """By person of `calls`."""
    cohort_corpus_of: list[str]


def main() -> None:
    options = _options()
    measured = _measured(options, load_models())
    names = sorted(set(measured.corpus_of))
    print(f"{'left out':14}{'lines':8}{'speech':>8}{'comparisons':>13}", end="")
    print("".join(f"{f'FAR at {score}':>26}" for score in SCORES) + f"{f'FRR at {SCORES[-1]}':>20}")
    for name in names:
        calibration, centre = _without(name, measured, options)
        people = {person for person, one in enumerate(measured.corpus_of) if one == name}
        own = centred([one for one in measured.calls if one.person in people], centre)
        rejected = _rejected(own, calibration)
        for lines, within in (("one", True), ("any", False)):
            for speech_s, text in _rates(own, calibration, within_lines=within):
                frr = rejected if speech_s == GENUINE_S else ""
                print(f"{name:14}{lines:8}{speech_s:7g}s{text}{frr:>20}", flush=True)


def _measured(options: argparse.Namespace, models: Models) -> Measured:
    people, cohort = (options.people.read_text("utf-8").split(), options.cohort.read_text("utf-8").split())
    if set(people) & set(cohort):
        sys.exit("the cohort and the people must not share anybody")
    embedder = uncentred_embedder(options.model, models)

    def simulated(names: Path, calls: int, seed: int, way: Way | None = None) -> list[Call]:
        recordings = [samples for _, samples in read_recordings(options.speech, names)]
        return simulate_calls(recordings, models, calls, seed, way=way, embedder=embedder, shared_lines=True)

    # The same calls as those of fit_calibration.py with --shared-lines and as many calls.
    prefix, calls, seed = options.calls_file, options.calls, options.seed
    narrow = kept_calls(
        prefix, "narrow", lambda: simulated(options.people, options.narrow_calls, seed + 2, narrow_call)
    )
    return Measured(
        calls=[
            *kept_calls(prefix, "people", lambda: simulated(options.people, calls, seed + 1)),
            *(replace(one, line=NARROW + one.line) for one in narrow),
        ],
        cohort=kept_calls(prefix, "cohort", lambda: simulated(options.cohort, calls, seed)),
        corpus_of=[name.split("-", 1)[0] for name in people],
        cohort_corpus_of=[name.split("-", 1)[0] for name in cohort],
    )


def _without(name: str, measured: Measured, options: argparse.Namespace) -> tuple[Calibration, Array]:
    """Fit centre and calibration without a corpus, or adjust the shipped calibration without it."""
    if options.adjust:
        entry = packaged_entry(options.model)
        assert entry is not None
        shipped_centre = np.load(MODELS / entry["centre"]["file"])
        others = centred(
            [one for one in measured.calls if measured.corpus_of[one.person] != name], shipped_centre
        )
        with contextlib.redirect_stdout(sys.stderr):
            moved, _ = adjusted(
                calibration_of(options.model),
                [one for one in others if one.line < NARROW],
                [one for one in others if one.line >= NARROW and one.highpass_300hz],
                within_lines=True,
                corpora=measured.corpus_of,
            )
        return moved, shipped_centre
    centre = centre_of([one for one in measured.cohort if measured.cohort_corpus_of[one.person] != name])
    calls = centred([one for one in measured.calls if measured.corpus_of[one.person] != name], centre)
    within = not options.any_lines
    with contextlib.redirect_stdout(sys.stderr):
        calibration, _ = fit(
            [one for one in calls if one.line < NARROW],
            options.model,
            options.least,
            within_lines=within,
            corpora=measured.corpus_of,
        )
        highpass_calls = [one for one in calls if one.line >= NARROW and one.highpass_300hz]
        highpass_300hz = fit_strangers(
            highpass_calls,
            options.model,
            options.least,
            within_lines=within,
            corpora=measured.corpus_of,
        )
    return replace(calibration, highpass_300hz=highpass_300hz.calibration.nodes), centre


def _rates(calls: Sequence[Call], calibration: Calibration, *, within_lines: bool) -> list[tuple[float, str]]:
    """Compute false accept rates with their intervals, by amount of speech."""
    cut_off = [one for one in calls if one.highpass_300hz]
    others = [one for one in calls if not one.highpass_300hz]
    # On lines of two kinds the grid for all lines applies, and strangers are less alike.
    parts = [(cut_off, True), (others, False)]
    tables = [
        (compare_strangers(part, within_lines=within_lines), highpass_300hz)
        for part, highpass_300hz in parts
        if len({one.person for one in part}) > 1
    ]
    lengths = sorted({float(one) for table, _ in tables for one in np.unique(table.speech_s)})
    return [(speech_s, _rate(tables, speech_s, calibration)) for speech_s in lengths]


def _rate(tables: Sequence[tuple[ComparisonTable, bool]], speech_s: float, calibration: Calibration) -> str:
    reached, first, second = [], [], []
    for whole, highpass_300hz in tables:
        table = whole.select(whole.speech_s == speech_s)
        if not len(table):
            continue
        z = deviations(
            calibration, table.similarity, table.speech_s, table.snr_db, highpass_300hz=highpass_300hz
        )
        reached.append(z[:, None] >= np.array(REACHED))
        first.append(table.first)
        second.append(table.second)
    return _with_interval(np.concatenate(reached), np.concatenate(first), np.concatenate(second))


def _with_interval(reached: NDArray[np.bool_], first: NDArray[np.intp], second: NDArray[np.intp]) -> str:
    people, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    pair = numbers[: len(first)] * len(people) + numbers[len(first) :]
    size = (len(people), len(people))
    total = np.bincount(pair, minlength=len(people) ** 2).reshape(size).astype(float)
    rng = np.random.default_rng(1)
    drawn = [np.bincount(rng.integers(size[0], size=size[0]), minlength=size[0]) for _ in range(RESAMPLINGS)]
    text = f"{len(reached):13,}"
    for column in reached.T:
        passed = np.bincount(pair, column, minlength=len(people) ** 2).reshape(size)
        rates = [(one @ passed @ one) / (one @ total @ one) for one in drawn]
        low, high = np.percentile(rates, [2.5, 97.5])
        text += f"{f'{100 * column.mean():.3f} % ({100 * low:.3f}-{100 * high:.3f})':>26}"
    return text


def _rejected(calls: Sequence[Call], calibration: Calibration) -> str:
    """Count genuine calls below the greater score: beginnings against second halves over other lines."""
    found = []
    for one in calls:
        for other in calls:
            if one.person != other.person or one.line == other.line or GENUINE_S not in one.probes:
                continue
            tail = calibration.tail(
                GENUINE_S,
                min(one.snr_db, other.snr_db),
                highpass_300hz=one.highpass_300hz and other.highpass_300hz,
            )
            alike = float(one.probes[GENUINE_S] @ other.probes[SECOND_HALF])
            found.append(tail.deviations(alike) < REACHED[-1])
    return f"{100 * np.mean(found):.1f} % of {len(found):,}" if found else "-"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder with one recording per person")
    parser.add_argument("--people", type=Path, required=True, help="names of files, of several corpora")
    parser.add_argument("--cohort", type=Path, required=True, help="names of files for the centre")
    parser.add_argument(
        "--model", choices=packaged_encoder_ids(), default=shipped_encoder_id(), help="encoder [GE2E]"
    )
    parser.add_argument("--calls", type=int, default=5, help="calls per recording over any line [5]")
    parser.add_argument("--narrow-calls", type=int, default=3, help="and over lines of 300-3400 Hz [3]")
    parser.add_argument("--adjust", action="store_true", help="adjust the shipped calibration, see there")
    parser.add_argument("--any-lines", action="store_true", help="fit to comparisons over any two lines")
    parser.add_argument(
        "--least", type=int, default=MIN_COMPARISONS, help="comparisons needed for a level of noise"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls-file", type=Path, help="where embedded calls are kept, without the ending")
    return parser.parse_args()


if __name__ == "__main__":
    main()
