#!/usr/bin/env python3
"""Fit the data shipped with a speaker encoder: the centre of its embeddings and its calibration.

    python tools/fit_calibration.py --speech DIR --cohort LIST --people LIST [--centre-only]
    python tools/fit_calibration.py --speech DIR --people LIST --keep-centre
    python tools/fit_calibration.py --speech DIR --people LIST --narrow

--model ID takes another of the encoders that ship than GE2E.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent / "distil"))
from degrade import at_level, call, coded, lossy, noisy

from sonant.errors import AudioError
from sonant.evaluation.channels import band
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.samples import float_from_int16, int16_from_float
from sonant.voice.calibration.file import read_calibration, write_calibration
from sonant.voice.calibration.fit import deviations, fit_llr
from sonant.voice.calibration.grid import MIN_COMPARISONS, ComparisonTable, GridFit, concatenate, fit_grid
from sonant.voice.calibration.model import Calibration
from sonant.voice.enrollment import Speech, collect_from_blocks
from sonant.voice.models import ENCODER, Models, load_models, open_packaged_encoder, shipped_encoder_id
from sonant.voice.models.campplus import CampplusEncoder
from sonant.voice.models.embedding import Embedder, embed
from sonant.voice.models.packaged import packaged_embedder, packaged_encoder_ids, packaged_entry

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"
PROBE_S = (3.0, 5.0, 10.0)
WHOLE_S, LEAST_S = 30.0, 6.0
_BLOCK = 4 * RATE_HZ
NARROW_CODECS, NARROW_ODDS = ("ulaw", "alaw", "gsm", "adpcm"), (0.3, 0.2, 0.4, 0.1)
"""Telephone codecs of lines of 300-3400 Hz."""
Array = NDArray[np.float32]
Way = Callable[[Array, Sequence[Array], np.random.Generator], Array]
"""Simulates a random call from speech, other people's speech for babble, and randomness."""


@dataclass(frozen=True, slots=True)
class Call:
    """One person's speech over one telephone call."""

    person: int
    snr_db: float
    highpass_300hz: bool
    whole: Array
    """The embedding of all its speech."""
    probes: dict[float, Array]
    """Embeddings of its beginning by seconds, and under 0 that of its second half."""


def main() -> int:
    options = _options()
    models = load_models()
    if options.narrow:
        return add_narrow(options, models)
    entry, embedder = packaged_entry(options.model), packaged_embedder(options.model, models)
    assert entry is not None and embedder is not None
    people = read_recordings(options.speech, options.people)
    if not options.keep_centre:
        embedder = fit_centre(options, models, {name for name, _ in people})
    if options.centre_only:
        return 0
    recordings = [samples for _, samples in people]
    calls = simulate_calls(recordings, models, options.calls, options.seed + 1, embedder=embedder)
    calibration, evidence = fit(calls, options.model, options.least)
    provenance = {"speech": options.note, "people": len(people), "calls_each": options.calls, **evidence}
    (options.out / entry["calibration"]).write_text(write_calibration(calibration, provenance), "utf-8")
    print(json.dumps(evidence, indent=2))
    return 0


def fit_centre(options: argparse.Namespace, models: Models, people: set[str]) -> Embedder:
    """Average the cohort's embeddings, store the result, and open the encoder with it."""
    entry = packaged_entry(options.model)
    assert entry is not None
    cohort = read_recordings(options.speech, options.cohort)
    if {name for name, _ in cohort} & people:
        sys.exit("the cohort and the people must not share anybody")
    recordings = [samples for _, samples in cohort]
    uncentred = centred_embedder(options.model, models, None)
    calls = simulate_calls(recordings, models, options.calls, options.seed, embedder=uncentred)
    centre: Array = np.mean([one.whole for one in calls], axis=0).astype(np.float32)
    np.save(options.out / entry["centre"]["file"], centre)
    print(f"centre: {len(calls)} calls of {len(cohort)} people, length {np.linalg.norm(centre):.3f}")
    return centred_embedder(options.model, models, centre)


def centred_embedder(model_id: str, models: Models, centre: Array | None) -> Embedder:
    """Open an encoder that ships with another centre; None is none."""
    entry = packaged_entry(model_id)
    assert entry is not None
    chosen = np.zeros(entry["dimensions"], np.float32) if centre is None else centre
    if entry["kind"] == ENCODER:
        return partial(embed, models=replace(models, centre=chosen))
    session, _ = open_packaged_encoder(entry["kind"])
    return CampplusEncoder(model_id=model_id, session=session, centre=chosen).embed


def add_narrow(options: argparse.Namespace, models: Models) -> int:
    """Add the grid of 300 Hz lines to the shipped calibration."""
    recordings = [samples for _, samples in read_recordings(options.speech, options.people)]
    entry, embedder = packaged_entry(options.model), packaged_embedder(options.model, models)
    assert entry is not None
    calls = simulate_calls(
        recordings, models, options.calls, options.seed + 2, way=narrow_call, embedder=embedder
    )
    highpass_calls = [one for one in calls if one.highpass_300hz]
    print(f"{len(highpass_calls)} of {len(calls)} calls are recognized as cut off below 300 Hz")
    found = fit_strangers(highpass_calls, options.model, options.least)
    shipped = (options.out / entry["calibration"]).read_text("utf-8")
    calibration, provenance = read_calibration(shipped), json.loads(shipped)["provenance"]
    provenance["narrow"] = {
        "lines": "300-3400 Hz",
        "people": len(recordings),
        "calls_each": options.calls,
        **_evidence(found),
    }
    made = replace(calibration, highpass_300hz=found.calibration.nodes)
    (options.out / entry["calibration"]).write_text(write_calibration(made, provenance), "utf-8")
    print(json.dumps(provenance["narrow"], indent=2))
    return 0


def narrow_call(clean: Array, others: Sequence[Array], rng: np.random.Generator) -> Array:
    """Simulate a random call over a line of 300-3400 Hz; two in five have no noise."""
    samples = at_level(clean, -26)
    if rng.random() < 0.6:
        samples = noisy(samples, float(rng.uniform(5, 30)), others, rng)
    samples = at_level(band(samples, 300.0, 3400.0), float(rng.uniform(-38, -14)))
    for _ in range(1 + (rng.random() < 0.3)):
        samples = coded(samples, str(rng.choice(NARROW_CODECS, p=NARROW_ODDS)), rng)
    if rng.random() < 0.15:
        samples = lossy(samples, float(rng.uniform(0.01, 0.1)), rng)
    return samples


def simulate_calls(
    recordings: Sequence[Array],
    models: Models,
    calls: int,
    seed: int,
    *,
    way: Way | None = None,
    embedder: Embedder | None = None,
) -> list[Call]:
    """Simulate random calls of each recording, by default of any kind and the first of them clean.

    Without an `embedder` they are embedded with GE2E.
    """
    found = []
    for person, clean in enumerate(recordings):
        for number in range(calls):
            rng = np.random.default_rng([seed, person, number])
            if way is None:
                samples = clean if number == 0 else call(clean, recordings, rng)
            else:
                samples = way(clean, recordings, rng)
            made = call_over(person, samples, models, embedder)
            found += [made] if made is not None else []
        print(f"\r{person + 1} of {len(recordings)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def call_over(person: int, samples: Array, models: Models, embedder: Embedder | None = None) -> Call | None:
    """Embed a received call, 8 kHz; None if there is too little speech in it."""
    speech = _speech(samples, models)
    return None if speech is None else _call(person, speech, embedder or partial(embed, models=models))


def _speech(samples: Array, models: Models) -> Speech | None:
    """Collect all speech of a call with the pipeline, at most 30 s; None below half of the longest probe."""
    received = float_from_int16(int16_from_float(samples))
    blocks = np.split(received, range(_BLOCK, len(received), _BLOCK))
    try:
        return collect_from_blocks([blocks], need_s=WHOLE_S, at_least_s=LEAST_S, models=models)
    except AudioError:
        return None


def _call(person: int, speech: Speech, embedder: Embedder) -> Call:
    samples = speech.samples
    parts = {seconds: samples[: int(seconds * RATE_HZ)] for seconds in PROBE_S}
    probes = {
        seconds: embedder(part).vector
        for seconds, part in parts.items()
        if len(part) >= 0.95 * seconds * RATE_HZ
    }
    probes[0.0] = embedder(samples[len(samples) // 2 :]).vector
    quality = speech.quality
    assert quality.snr_db is not None
    whole = embedder(samples).vector
    return Call(person, quality.snr_db, bool(quality.highpass_300hz), whole, probes)


def fit(
    calls: Sequence[Call], model_id: str, least: int = MIN_COMPARISONS
) -> tuple[Calibration, dict[str, Any]]:
    """Fit the calibration, with its evidence."""
    found = fit_strangers(calls, model_id, least)
    slope, offset = _ratio(calls, found.calibration, found.strangers)
    return replace(found.calibration, llr_slope=slope, llr_offset=offset), _evidence(found)


def fit_strangers(calls: Sequence[Call], model_id: str, least: int = MIN_COMPARISONS) -> GridFit:
    """Fit the tails of strangers alone."""
    whole = np.stack([one.whole for one in calls])
    found = fit_grid(
        model_id, concatenate([_strangers(calls, whole, seconds) for seconds in PROBE_S]), least=least
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


def _strangers(calls: Sequence[Call], whole: Array, speech_s: float) -> ComparisonTable:
    """Compare all speech of every call of one person with the given speech of every call of another."""
    person = np.array([one.person for one in calls])
    snr_db = np.array([one.snr_db for one in calls])
    have = np.array([speech_s in one.probes for one in calls])
    probes = np.stack([one.probes.get(speech_s, one.whole) for one in calls])
    first, second = np.nonzero((person[:, None] != person[None, :]) & have[None, :])
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
        (float(one.probes[5.0] @ other.probes[0.0]), min(one.snr_db, other.snr_db))
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


def read_recordings(folder: Path, names: Path) -> list[tuple[str, Array]]:
    found = []
    for name in names.read_text("utf-8").split():
        samples, rate_hz = soundfile.read(folder / name, dtype="float32", always_2d=True)
        found.append((name, soxr.resample(samples[:, 0], rate_hz, RATE_HZ).astype(np.float32)))
    return found


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
    parser.add_argument("--centre-only", action="store_true")
    parser.add_argument("--keep-centre", action="store_true", help="use the shipped centre")
    parser.add_argument("--narrow", action="store_true", help="only add the grid of 300 Hz lines")
    options = parser.parse_args()
    if options.cohort is None and not (options.narrow or options.keep_centre):
        parser.error("the centre needs --cohort, or use --keep-centre")
    return options


if __name__ == "__main__":
    sys.exit(main())
