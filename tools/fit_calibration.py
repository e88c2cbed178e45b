#!/usr/bin/env python3
"""Fit what ships with the speaker encoder: the centre of its embeddings, and what its similarities mean.

    python tools/fit_calibration.py --speech DIR --cohort LIST --people LIST [--centre-only]

DIR holds one recording a person; the lists name files in it. The centre is the mean embedding of the cohort,
the calibration comes from the people, who must be others: others than the encoder was trained on, others than
the cohort, others than anything is tested on. Every recording goes through several random telephone calls
(distil/degrade.py) and the product's own pipeline: speech detection, level, features, encoder.

Strangers' similarities are taken between every call of one person and every call of another, for several
amounts of speech and levels of noise. Of one voice there are only the two halves of a recording, over two
calls: that is optimistic, and it serves the likelihood ratio alone, never the scale of error rates.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent / "distil"))
from degrade import call

from sonant.errors import AudioError, NotEnoughSpeech
from sonant.voice.audio import RATE_HZ
from sonant.voice.calibration import Calibration
from sonant.voice.calibration_file import SHIPPED, write_calibration
from sonant.voice.calibration_fit import deviations, fit_llr
from sonant.voice.calibration_grid import Compared, fit_grid, joined
from sonant.voice.embedding import embed
from sonant.voice.enrollment import RecordingSource, Speech, gather_speech
from sonant.voice.models import Models, load_models

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"
CENTRE = "ge2e_centre.npy"

PROBE_S = (3.0, 5.0, 10.0)
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Call:
    """One person's speech over one telephone call."""

    person: int
    snr_db: float
    whole: Array
    """The embedding of all its speech; [256]."""
    probes: dict[float, Array]
    """By seconds: embeddings of so much of its beginning; and under 0 of its second half."""


def main() -> int:
    options = _options()
    models = load_models()
    cohort, people = (read_recordings(options.speech, names) for names in (options.cohort, options.people))
    if {name for name, _ in cohort} & {name for name, _ in people}:
        sys.exit("the cohort and the people must not share anybody")
    uncentred = replace(models, centre=np.zeros_like(models.centre))
    heard = listen([samples for _, samples in cohort], uncentred, options.calls, options.seed)
    centre = np.mean([one.whole for one in heard], axis=0).astype(np.float32)
    np.save(MODELS / CENTRE, centre)
    print(f"{CENTRE}: {len(heard)} calls of {len(cohort)} people, length {np.linalg.norm(centre):.3f}")
    if options.centre_only:
        return 0
    calls = listen(
        [samples for _, samples in people], replace(models, centre=centre), options.calls, options.seed + 1
    )
    calibration, evidence = fit(calls, models.encoder_id)
    provenance = {"speech": options.note, "people": len(people), "calls_each": options.calls, **evidence}
    (MODELS / SHIPPED).write_text(write_calibration(calibration, provenance), "utf-8")
    print(json.dumps(evidence, indent=2))
    return 0


def listen(recordings: Sequence[Array], models: Models, calls: int, seed: int) -> list[Call]:
    """Each recording over so many random calls, the first of them clean."""
    found = []
    for person, clean in enumerate(recordings):
        for number in range(calls):
            rng = np.random.default_rng([seed, person, number])
            samples = clean if number == 0 else call(clean, recordings, rng)
            made = call_over(person, samples, models)
            found += [made] if made is not None else []
        print(f"\r{person + 1} of {len(recordings)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def call_over(person: int, samples: Array, models: Models) -> Call | None:
    """One call as it arrived, 8 kHz; None if there is too little speech in it."""
    speech = _speech(samples, models)
    return None if speech is None else _call(person, speech, models)


def _speech(samples: Array, models: Models) -> Speech | None:
    """All speech of a call, as the pipeline finds it; None below the longest probe's half."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), RATE_HZ, format="WAV", subtype="PCM_16")
    source = RecordingSource(name="call", data=file.getvalue(), channel=0)
    need_s = 30.0
    while need_s >= 6:
        try:
            return gather_speech([source], need_s=need_s, models=models, strict=False, max_duration_s=600)
        except NotEnoughSpeech as fault:
            need_s = fault.have_s
        except AudioError:
            return None
    return None


def _call(person: int, speech: Speech, models: Models) -> Call:
    samples = speech.samples
    parts = {seconds: samples[: int(seconds * RATE_HZ)] for seconds in PROBE_S}
    probes = {
        seconds: embed(part, models).vector
        for seconds, part in parts.items()
        if len(part) >= 0.95 * seconds * RATE_HZ
    }
    probes[0.0] = embed(samples[len(samples) // 2 :], models).vector
    return Call(person, speech.quality.snr_db, embed(samples, models).vector, probes)


def fit(calls: Sequence[Call], model_id: str) -> tuple[Calibration, dict[str, Any]]:
    """The calibration and what it rests on."""
    whole = np.stack([one.whole for one in calls])
    found = fit_grid(model_id, joined([_strangers(calls, whole, seconds) for seconds in PROBE_S]))
    for node, count in zip(found.calibration.nodes, found.counts, strict=True):
        print(
            f"{node.speech_s:4.0f} s {node.snr_db:5.1f} dB: {count:6d} comparisons, "
            f"z {node.tail.z.mean:.3f} +- {node.tail.z.deviation:.3f}"
        )
    slope, offset = _ratio(calls, found.calibration, found.strangers)
    made = replace(found.calibration, llr_slope=slope, llr_offset=offset)
    evidence = {
        "pairs_of_people": found.support.pairs,
        "comparisons": len(found.strangers),
        "log10_far_at_80": [round(level, 2) for level in found.support.interval(-2)],
        "log10_far_at_90": [round(level, 2) for level in found.support.interval(-3)],
    }
    return made, evidence


def _strangers(calls: Sequence[Call], whole: Array, speech_s: float) -> Compared:
    """Every call of one person, all of its speech, with so much of every call of another."""
    person = np.array([one.person for one in calls])
    snr_db = np.array([one.snr_db for one in calls])
    have = np.array([speech_s in one.probes for one in calls])
    probes = np.stack([one.probes.get(speech_s, one.whole) for one in calls])
    first, second = np.nonzero((person[:, None] != person[None, :]) & have[None, :])
    return Compared(
        similarity=(whole @ probes.T)[first, second].astype(np.float64),
        first=person[first],
        second=person[second],
        speech_s=np.full(len(first), speech_s),
        snr_db=np.minimum(snr_db[first], snr_db[second]),
    )


def _ratio(
    calls: Sequence[Call], calibration: Calibration, strangers: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope and offset of the likelihood ratio: halves of one recording over two calls against strangers."""
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
    parser.add_argument("--speech", type=Path, required=True, help="folder with one recording a person")
    parser.add_argument("--cohort", type=Path, required=True, help="names of files for the centre")
    parser.add_argument("--people", type=Path, required=True, help="names of files to calibrate on")
    parser.add_argument("--calls", type=int, default=6, help="telephone calls a recording [6]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--note", default="", help="where the speech comes from, for the record")
    parser.add_argument("--centre-only", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
