#!/usr/bin/env python3
"""Fit the data shipped with a speaker encoder: the centre of its embeddings and its calibration.

    python tools/fit_calibration.py --speech DIR --cohort LIST --people LIST [--centre-only]
    python tools/fit_calibration.py --speech DIR --people LIST --keep-centre
    python tools/fit_calibration.py --speech DIR --people LIST --narrow

--model ID takes another of the encoders that ship than GE2E.

With --shared-lines all people's calls of one number go over one line, and only these are compared with each
other: strangers who call over one line, from one kind of handset, are more alike than strangers over any two.
The scale then holds for them, and errs on the safe side for the others.

DIR holds one recording per person; the lists name files in it. The centre is the mean embedding of the
cohort, the calibration comes from the people, who must be others than those of the encoder's training, of the
cohort and of any test. Every recording goes through several random telephone calls (distil/degrade.py) and
the product's own pipeline: speech detection, level, features, encoder.

Strangers' similarities are taken between every call of one person and every call of another, for several
amounts of speech and levels of noise. Genuine comparisons are only those of the two halves of a recording,
over two calls: that is optimistic, and it is used for the likelihood ratio alone, never for the scale of
error rates.

With --keep-centre the shipped centre stays, so that stored voiceprints and new ones remain comparable.

With --narrow the shipped data are unchanged, and a second grid is added for lines of 300-3400 Hz, fitted to
the people over calls of which both sides are such.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulated_calls import (
    PROBE_S,
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
from sonant.voice.calibration.file import read_calibration, write_calibration
from sonant.voice.calibration.fit import deviations, fit_llr
from sonant.voice.calibration.grid import MIN_COMPARISONS, ComparisonTable, GridFit, concatenate, fit_grid
from sonant.voice.calibration.model import Calibration
from sonant.voice.models import Models, load_models, shipped_encoder_id
from sonant.voice.models.packaged import packaged_encoder_ids, packaged_entry

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"


def main() -> int:
    options = _options()
    models = load_models()
    if options.narrow:
        return add_narrow(options, models)
    entry = packaged_entry(options.model)
    assert entry is not None
    people = read_recordings(options.speech, options.people)
    centre = (
        np.load(MODELS / entry["centre"]["file"])
        if options.keep_centre
        else fit_centre(options, models, {name for name, _ in people})
    )
    if options.centre_only:
        return 0
    calls = kept_calls(
        options.calls_file, "people", lambda: _calls(options, models, people, options.seed + 1)
    )
    calibration, evidence = fit(
        centred(calls, centre), options.model, options.least, within_lines=options.shared_lines
    )
    provenance = {
        "speech": options.note,
        "people": len(people),
        "calls_each": options.calls,
        "lines": "each of them shared by all people" if options.shared_lines else "random",
        **evidence,
    }
    (options.out / entry["calibration"]).write_text(write_calibration(calibration, provenance), "utf-8")
    print(json.dumps(evidence, indent=2))
    return 0


def fit_centre(options: argparse.Namespace, models: Models, people: set[str]) -> Array:
    """Average the cohort's embeddings and store the result."""
    entry = packaged_entry(options.model)
    assert entry is not None
    cohort = read_recordings(options.speech, options.cohort)
    if {name for name, _ in cohort} & people:
        sys.exit("the cohort and the people must not share anybody")
    calls = kept_calls(options.calls_file, "cohort", lambda: _calls(options, models, cohort, options.seed))
    centre = centre_of(calls)
    np.save(options.out / entry["centre"]["file"], centre)
    print(f"centre: {len(calls)} calls of {len(cohort)} people, length {np.linalg.norm(centre):.3f}")
    return centre


def _calls(
    options: argparse.Namespace,
    models: Models,
    recordings: Sequence[tuple[str, Array]],
    seed: int,
    way: Way | None = None,
) -> list[Call]:
    return simulate_calls(
        [samples for _, samples in recordings],
        models,
        options.calls,
        seed,
        way=way,
        embedder=uncentred_embedder(options.model, models),
        shared_lines=options.shared_lines,
    )


def add_narrow(options: argparse.Namespace, models: Models) -> int:
    """Add the grid of 300 Hz lines to the shipped calibration."""
    people = read_recordings(options.speech, options.people)
    entry = packaged_entry(options.model)
    assert entry is not None
    calls = kept_calls(
        options.calls_file,
        "narrow",
        lambda: _calls(options, models, people, options.seed + 2, narrow_call),
    )
    highpass_calls = [one for one in calls if one.highpass_300hz]
    print(f"{len(highpass_calls)} of {len(calls)} calls are recognized as cut off below 300 Hz")
    own = options.out / entry["centre"]["file"]
    centre = np.load(own if own.exists() else MODELS / own.name)
    found = fit_strangers(
        centred(highpass_calls, centre), options.model, options.least, within_lines=options.shared_lines
    )
    shipped = (options.out / entry["calibration"]).read_text("utf-8")
    calibration, provenance = read_calibration(shipped), json.loads(shipped)["provenance"]
    provenance["narrow"] = {
        "lines": "300-3400 Hz",
        "people": len(people),
        "calls_each": options.calls,
        **_evidence(found),
    }
    made = replace(calibration, highpass_300hz=found.calibration.nodes)
    (options.out / entry["calibration"]).write_text(write_calibration(made, provenance), "utf-8")
    print(json.dumps(provenance["narrow"], indent=2))
    return 0


def fit(
    calls: Sequence[Call], model_id: str, least: int = MIN_COMPARISONS, *, within_lines: bool = False
) -> tuple[Calibration, dict[str, Any]]:
    """Fit the calibration, with its evidence; see `fit_strangers`."""
    found = fit_strangers(calls, model_id, least, within_lines=within_lines)
    slope, offset = _ratio(calls, found.calibration, found.strangers)
    return replace(found.calibration, llr_slope=slope, llr_offset=offset), _evidence(found)


def fit_strangers(
    calls: Sequence[Call], model_id: str, least: int = MIN_COMPARISONS, *, within_lines: bool = False
) -> GridFit:
    """Fit the tails of strangers alone, of all comparisons or of those within lines that people share."""
    found = fit_grid(model_id, compare_strangers(calls, within_lines=within_lines), least=least)
    for node, count in zip(found.calibration.nodes, found.counts, strict=True):
        print(
            f"{node.speech_s:4.0f} s {node.snr_db:5.1f} dB: {count:6d} comparisons, "
            f"z {node.tail.z.mean:.3f} +- {node.tail.z.deviation:.3f}"
        )
    return found


def _evidence(found: GridFit) -> dict[str, Any]:
    return {
        "pairs_of_people": found.support.pairs,
        "comparisons": len(found.strangers),
        "log10_far_at_80": [round(level, 2) for level in found.support.interval(-2)],
        "log10_far_at_90": [round(level, 2) for level in found.support.interval(-3)],
    }


def compare_strangers(calls: Sequence[Call], *, within_lines: bool = False) -> ComparisonTable:
    """Compare all speech of every call of one person with each beginning of every call of another."""
    whole = np.stack([one.whole for one in calls])
    return concatenate([_strangers(calls, whole, seconds, within_lines) for seconds in PROBE_S])


def _strangers(calls: Sequence[Call], whole: Array, speech_s: float, within_lines: bool) -> ComparisonTable:
    person = np.array([one.person for one in calls])
    line = np.array([one.line for one in calls])
    snr_db = np.array([one.snr_db for one in calls])
    have = np.array([speech_s in one.probes for one in calls])
    probes = np.stack([one.probes.get(speech_s, one.whole) for one in calls])
    compared = (person[:, None] != person[None, :]) & have[None, :]
    if within_lines:
        compared &= line[:, None] == line[None, :]
    first, second = np.nonzero(compared)
    return ComparisonTable(
        similarity=(whole @ probes.T)[first, second].astype(np.float64),
        first=person[first],
        second=person[second],
        speech_s=np.full(len(first), speech_s),
        snr_db=np.minimum(snr_db[first], snr_db[second]),
    )


def _ratio(
    calls: Sequence[Call], calibration: Calibration, strangers: NDArray[np.float64]
) -> tuple[float, float]:
    """Fit the likelihood ratio from halves of one recording over two calls and from strangers."""
    found = [
        (float(one.probes[5.0] @ other.probes[SECOND_HALF]), min(one.snr_db, other.snr_db))
        for one in calls
        for other in calls
        if one.person == other.person and one is not other and 5.0 in one.probes
    ]
    similarity, noise = (np.array(values) for values in zip(*found, strict=True))
    genuine = deviations(calibration, similarity, np.full(len(found), 5.0), noise)
    print(
        f"genuine: {len(found)} comparisons, {genuine.mean():.2f} +- {genuine.std():.2f} deviations "
        "above strangers"
    )
    return fit_llr(genuine, strangers)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder with one recording per person")
    parser.add_argument("--cohort", type=Path, help="names of files for the centre")
    parser.add_argument("--people", type=Path, required=True, help="names of files for the calibration")
    parser.add_argument(
        "--model", choices=packaged_encoder_ids(), default=shipped_encoder_id(), help="encoder [GE2E]"
    )
    parser.add_argument("--calls", type=int, default=6, help="telephone calls per recording [6]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=MODELS, help="output folder; default: the shipped models")
    parser.add_argument(
        "--least", type=int, default=MIN_COMPARISONS, help="comparisons needed for a level of noise"
    )
    parser.add_argument("--note", default="", help="origin of the speech, for the provenance")
    parser.add_argument("--calls-file", type=Path, help="where embedded calls are kept, without the ending")
    parser.add_argument("--centre-only", action="store_true")
    parser.add_argument("--keep-centre", action="store_true", help="use the shipped centre")
    parser.add_argument(
        "--shared-lines",
        action="store_true",
        help="compare people over one line at a time",
    )
    parser.add_argument("--narrow", action="store_true", help="only add the grid of 300 Hz lines")
    options = parser.parse_args()
    if options.cohort is None and not (options.narrow or options.keep_centre):
        parser.error("the centre needs --cohort, or use --keep-centre")
    return options


if __name__ == "__main__":
    sys.exit(main())
