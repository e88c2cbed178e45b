"""Simulated telephone calls of recordings of people, embedded as the product embeds calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

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
from sonant.voice.enrollment import Speech, collect_from_blocks
from sonant.voice.models import ENCODER, Models, open_packaged_encoder
from sonant.voice.models.campplus import CampplusEncoder, open_last_layer
from sonant.voice.models.embedding import Embedder, embed
from sonant.voice.models.packaged import packaged_entry

PROBE_S = (3.0, 5.0, 10.0)
SECOND_HALF = 0.0
"""The key of the second half among a call's probes."""
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
    """Embeddings of its beginning by seconds, and under SECOND_HALF that of its second half."""
    line: int = 0
    """The number of the call, and of its line where all people have the same."""


def read_recordings(folder: Path, names: Path) -> list[tuple[str, Array]]:
    """Read the recordings that a list names, at 8 kHz."""
    found = []
    for name in names.read_text("utf-8").split():
        samples, rate_hz = soundfile.read(folder / name, dtype="float32", always_2d=True)
        found.append((name, soxr.resample(samples[:, 0], rate_hz, RATE_HZ).astype(np.float32)))
    return found


def simulate_calls(
    recordings: Sequence[Array],
    models: Models,
    calls: int,
    seed: int,
    *,
    way: Way | None = None,
    embedder: Embedder | None = None,
    shared_lines: bool = False,
) -> list[Call]:
    """Simulate random calls of each recording, by default of any kind and the first of them clean.

    Without an `embedder` they are embedded with GE2E. With `shared_lines` the first calls of all people are
    over one line, the second over another, and so on: the same noise, handset, codecs and losses.
    """
    found = []
    for person, clean in enumerate(recordings):
        for number in range(calls):
            if way is None and number == 0:
                samples = clean
            elif shared_lines:
                samples = _over_shared_line(clean, recordings, way or call, seed, number)
            else:
                samples = (way or call)(clean, recordings, np.random.default_rng([seed, person, number]))
            made = call_over(person, samples, models, embedder)
            found += [replace(made, line=number)] if made is not None else []
        print(f"\r{person + 1} of {len(recordings)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def _over_shared_line(clean: Array, recordings: Sequence[Array], way: Way, seed: int, number: int) -> Array:
    """Simulate a call whose randomness depends on its number alone.

    All recordings are brought to one length first, so that as many random numbers are drawn for each.
    """
    length = int(WHOLE_S * RATE_HZ)
    made = way(np.resize(clean, length), recordings, np.random.default_rng([seed, number]))
    return made[: min(len(clean), length)]


def call_over(person: int, samples: Array, models: Models, embedder: Embedder | None = None) -> Call | None:
    """Embed a received call, 8 kHz; None if there is too little speech in it."""
    speech = _speech(samples, models)
    return None if speech is None else _call(person, speech, embedder or partial(embed, models=models))


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


def uncentred_embedder(model_id: str, models: Models) -> Embedder:
    """Open an encoder that ships without its centre; see `centred`."""
    entry = packaged_entry(model_id)
    assert entry is not None
    zeros = np.zeros(entry["dimensions"], np.float32)
    if entry["kind"] == ENCODER:
        return partial(embed, models=replace(models, centre=zeros))
    session, _ = open_packaged_encoder(entry["kind"])
    return CampplusEncoder(
        model_id=model_id, session=session, centre=zeros, last_layer=open_last_layer(session)
    )


def centre_of(calls: Sequence[Call]) -> Array:
    """Average the embeddings of all speech of calls that were embedded without a centre."""
    centre: Array = np.mean([one.whole for one in calls], axis=0).astype(np.float32)
    return centre


def centred(calls: Sequence[Call], centre: Array) -> list[Call]:
    """Give calls that were embedded without a centre the embeddings with it, as the encoders do."""

    def moved(vector: Array) -> Array:
        own = vector.astype(np.float64) - centre
        return np.asarray(own / np.linalg.norm(own), np.float32)

    return [
        replace(
            one,
            whole=moved(one.whole),
            probes={seconds: moved(vector) for seconds, vector in one.probes.items()},
        )
        for one in calls
    ]


def kept_calls(prefix: Path | None, part: str, simulate: Callable[[], list[Call]]) -> list[Call]:
    """Read the calls of PREFIX.part.npz, or simulate and write them; without a prefix nothing is kept."""
    if prefix is None:
        return simulate()
    file = prefix.with_name(f"{prefix.name}.{part}.npz")
    if not file.exists():
        save_calls(file, simulate())
    return load_calls(file)


def save_calls(file: Path, calls: Sequence[Call]) -> None:
    """Write calls to an .npz file."""
    keys = sorted({seconds for one in calls for seconds in one.probes})
    absent = np.full_like(calls[0].whole, np.nan)
    np.savez(
        file,
        person=[one.person for one in calls],
        line=[one.line for one in calls],
        snr_db=[one.snr_db for one in calls],
        highpass_300hz=[one.highpass_300hz for one in calls],
        whole=np.stack([one.whole for one in calls]),
        seconds=keys,
        probes=np.stack([[one.probes.get(key, absent) for key in keys] for one in calls]),
    )


def load_calls(file: Path) -> list[Call]:
    """Read what `save_calls` wrote."""
    with np.load(file) as stored:
        columns = {name: stored[name] for name in stored.files}
    return [
        Call(
            person=int(columns["person"][row]),
            snr_db=float(columns["snr_db"][row]),
            highpass_300hz=bool(columns["highpass_300hz"][row]),
            whole=columns["whole"][row],
            probes={
                float(seconds): vector
                for seconds, vector in zip(columns["seconds"], columns["probes"][row], strict=True)
                if not np.isnan(vector[0])
            },
            line=int(columns["line"][row]),
        )
        for row in range(len(columns["person"]))
    ]


def _speech(samples: Array, models: Models) -> Speech | None:
    """Collect all speech of a call with the pipeline, at most 30 s; None below LEAST_S."""
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
    probes[SECOND_HALF] = embedder(samples[len(samples) // 2 :]).vector
    quality = speech.quality
    assert quality.snr_db is not None
    whole = embedder(samples).vector
    return Call(person, quality.snr_db, bool(quality.highpass_300hz), whole, probes)
