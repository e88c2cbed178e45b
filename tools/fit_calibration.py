#!/usr/bin/env python3
"""Fit the data shipped with a speaker encoder: the centre of its embeddings and its calibration.

    python tools/fit_calibration.py --speech DIR --cohort LIST --people LIST [--centre-only]
    python tools/fit_calibration.py --speech DIR --people LIST --keep-centre
    python tools/fit_calibration.py --speech DIR --people LIST --narrow
    python tools/fit_calibration.py --speech DIR --people LIST --adjust --shared-lines --within-corpora

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

With --adjust the shipped centre and the shape of both shipped grids over speech and noise stay, and each grid
is moved and stretched to the tail of these strangers: a few lines suffice for that.
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
from sonant.voice.calibration.fit import deviations, fit_llr, fit_own
from sonant.voice.calibration.grid import MIN_COMPARISONS, ComparisonTable, GridFit, concatenate, fit_grid
from sonant.voice.calibration.model import Calibration, Node, Normal, Tail
from sonant.voice.models import Models, load_models, shipped_encoder_id
from sonant.voice.models.packaged import packaged_encoder_ids, packaged_entry

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"


def main() -> int:
    options = _options()
    models = load_models()
    if options.narrow:
        return add_narrow(options, models)
    if options.adjust:
        return adjust(options, models)
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
        centred(calls, centre),
        options.model,
        options.least,
        within_lines=options.shared_lines,
        corpora=_corpora(options, people),
    )
    provenance = {
        "speech": options.note,
        "people": len(people),
        "calls_each": options.calls,
        "lines": "each of them shared by all people" if options.shared_lines else "random",
        "strangers": "of one corpus" if options.within_corpora else "any",
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


def adjust(options: argparse.Namespace, models: Models) -> int:
    """Adjust both grids of the shipped calibration."""
    people = read_recordings(options.speech, options.people)
    entry = packaged_entry(options.model)
    assert entry is not None
    seed, centre = options.seed, np.load(MODELS / entry["centre"]["file"])
    calls = kept_calls(options.calls_file, "people", lambda: _calls(options, models, people, seed + 1))
    narrow = kept_calls(
        options.calls_file, "narrow", lambda: _calls(options, models, people, seed + 2, narrow_call)
    )
    shipped = (MODELS / entry["calibration"]).read_text("utf-8")
    calibration, provenance = read_calibration(shipped), json.loads(shipped)["provenance"]
    made, moved = adjusted(
        calibration,
        centred(calls, centre),
        centred([one for one in narrow if one.highpass_300hz], centre),
        within_lines=options.shared_lines,
        corpora=_corpora(options, people),
    )
    provenance["adjusted"] = {"speech": options.note, "people": len(people), **moved}
    (options.out / entry["calibration"]).write_text(write_calibration(made, provenance), "utf-8")
    print(json.dumps(provenance["adjusted"], indent=2))
    return 0


def adjusted(
    calibration: Calibration,
    calls: Sequence[Call],
    narrow: Sequence[Call],
    *,
    within_lines: bool,
    corpora: Sequence[str] | None,
) -> tuple[Calibration, dict[str, Any]]:
    """Move and stretch both grids to the tails of strangers; gives the figures by grid, too."""
    found, moved = calibration, {}
    strangers, supported = np.empty(0), -np.inf
    for name, part, highpass_300hz in (("nodes", calls, False), ("highpass_300hz", narrow, True)):
        table = _compare_groups(part, within_lines=within_lines, corpora=corpora)
        z = deviations(
            calibration, table.similarity, table.speech_s, table.snr_db, highpass_300hz=highpass_300hz
        )
        own = fit_own(z, table.first, table.second)
        grid = tuple(_moved(node, own.shift, own.scale) for node in getattr(calibration, name))
        found = replace(found, highpass_300hz=grid) if highpass_300hz else replace(found, nodes=grid)
        moved[name] = {
            "comparisons": len(table),
            "shift": round(own.shift, 3),
            "scale": round(own.scale, 3),
            "log10_far_at_90": [round(level, 2) for level in own.support.interval(-3)],
        }
        supported = max(supported, own.support.supported_log10_far())
        strangers = (z - own.shift) / own.scale if name == "nodes" else strangers
    slope, offset = _ratio(calls, found, strangers)
    made = replace(found, llr_slope=slope, llr_offset=offset, supported_log10_far=supported)
    return made, moved


def _moved(node: Node, shift: float, scale: float) -> Node:
    z = node.tail.z
    return replace(
        node, tail=Tail(z=Normal(mean=z.mean + shift * z.deviation, deviation=z.deviation * scale))
    )


def _corpora(options: argparse.Namespace, people: Sequence[tuple[str, Array]]) -> list[str] | None:
    return [name.split("-", 1)[0] for name, _ in people] if options.within_corpora else None


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
        centred(highpass_calls, centre),
        options.model,
        options.least,
        within_lines=options.shared_lines,
        corpora=_corpora(options, people),
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
    calls: Sequence[Call],
    model_id: str,
    least: int = MIN_COMPARISONS,
    *,
    within_lines: bool = False,
    corpora: Sequence[str] | None = None,
) -> tuple[Calibration, dict[str, Any]]:
    """Fit the calibration, with its evidence; see `fit_strangers`."""
    found = fit_strangers(calls, model_id, least, within_lines=within_lines, corpora=corpora)
    slope, offset = _ratio(calls, found.calibration, found.strangers)
    return replace(found.calibration, llr_slope=slope, llr_offset=offset), _evidence(found)


def fit_strangers(
    calls: Sequence[Call],
    model_id: str,
    least: int = MIN_COMPARISONS,
    *,
    within_lines: bool = False,
    corpora: Sequence[str] | None = None,
) -> GridFit:
    """Fit the tails of strangers alone, of all comparisons or of those within lines that people share.

    With `corpora`, by person, only people of one corpus are compared: people of two, who speak other
    languages in other rooms, are less alike than the callers of one organization.
    """
    found = fit_grid(
        model_id, _compare_groups(calls, within_lines=within_lines, corpora=corpora), least=least
    )
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


def _compare_groups(
    calls: Sequence[Call], *, within_lines: bool, corpora: Sequence[str] | None
) -> ComparisonTable:
    groups = [list(calls)]
    if corpora is not None:
        names = sorted({corpora[one.person] for one in calls})
        groups = [[one for one in calls if corpora[one.person] == name] for name in names]
    return concatenate([compare_strangers(group, within_lines=within_lines) for group in groups])


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
    parser.add_argument(
        "--within-corpora",
        action="store_true",
        help="compare people of one corpus: the part of a name before the first `-`",
    )
    parser.add_argument("--adjust", action="store_true", help="only move and stretch the shipped grids")
    parser.add_argument("--narrow", action="store_true", help="only add the grid of 300 Hz lines")
    options = parser.parse_args()
    if options.cohort is None and not (options.narrow or options.adjust or options.keep_centre):
        parser.error("the centre needs --cohort, or use --keep-centre")
    return options


if __name__ == "__main__":
    sys.exit(main())
