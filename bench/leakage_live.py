"""The adaptive attack on a served Sonant: recordings over HTTP, by a user with few rights, at default rates.

A recording is put together from pieces of strangers' speech, so that its embedding is about the one wanted.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from botocore.exceptions import ClientError

from leakage_attack import Belief, Edges, Floats, Interval, entropy
from leakage_service import POLICY
from leakage_voices import Piece, Population
from service import BUCKET, Running, data_folder, serving
from sonant.cli.service_client import client
from sonant.errors import AudioError
from sonant.voice import VoiceModel, Waveform
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.calibration.model import log10_far_of
from sonant.voice.disclosure import SCORE_BANDS
from sonant.voice.sample import vector_from_bytes

#: Default rates, which other benchmarks switch off. The speech was found already: a second search finds less.
SETTINGS = {
    "SONANT_RATES_FACTOR": "1",
    "SONANT_ENROLLMENT_NET_SPEECH_S": "20",
    "SONANT_ENROLLMENT_SECOND_VOICE": "ignore",
}
#: Pieces in one recording, and how many recordings are considered for each probe.
PARTS, CONSIDERED = 3, 200


def attack(model: VoiceModel, population: Population, victim: str, requests: int) -> None:
    """Enroll everybody, attack one speaker, and print what was recovered."""
    with data_folder() as data, serving(data, SETTINGS) as running:
        domain_id = running.create_domain()
        _enroll(running, domain_id, population)
        attacker = _attacker(running, data)
        belief, outcomes = _search(attacker, running, data, domain_id, model, population, victim, requests)
        voiceprints = {name: _voiceprint(running, domain_id, name) for name in population.enrolled}
    tail = population.calibration
    for name, count in outcomes.items():
        print(f"{count:6} {name}")
    for name, voiceprint in voiceprints.items():
        cosine = float(belief.template @ voiceprint)
        line = tail.tail_for(population.enrolled[name].quality).similarity_at(log10_far_of(90))
        verdict = "accepted" if cosine >= line else "not accepted"
        print(f"{name:20} cosine {cosine:6.3f}, {verdict} at 90{' (attacked)' if name == victim else ''}")


def _search(
    attacker: Any,
    running: Running,
    data: Path,
    domain_id: str,
    model: VoiceModel,
    population: Population,
    victim: str,
    requests: int,
) -> tuple[Belief, Counter[str]]:
    """Send recordings, each chosen by the answers before; what is believed, and how requests ended."""
    random, outcomes = np.random.default_rng(3), Counter[str]()
    pieces = [piece for piece in population.pieces if piece.speaker != victim]
    belief = Belief.of_strangers(population.strangers_to(victim))
    probe: tuple[Floats, Edges] | None = None
    for _ in range(requests):
        if probe is None:
            probe = _next_recording(model, population, pieces, belief, random, data)
        vector, edges = probe
        try:
            answer = attacker.compare_recording(
                DomainId=domain_id,
                DataAccessRoleArn=f"arn:aws:iam::{running.settings.account}:role/sonant",
                AudioSpecification={"S3Uri": f"s3://{BUCKET}/probe.wav", "ChannelId": 0},
                SpeakerIds=[victim],
                MinimumNetSpeech=5,
            )
        except ClientError as refusal:
            code, message = refusal.response["Error"]["Code"], refusal.response["Error"]["Message"]
            outcomes[f"{code}: {message}"] += 1
            if code == "ValidationException":  # the recording cannot be scored: another one can
                probe = None
            continue
        told = answer["Comparisons"][0]
        outcomes["answered" + (" with a similarity" if "Similarity" in told else "")] += 1
        above = [band for band in SCORE_BANDS if band > told["Score"]]
        high = edges.at(above[0]) if above else math.inf
        belief.learn(vector, Interval(low=edges.at(told["Score"]), high=high))
        probe = None
    return belief, outcomes


def _next_recording(
    model: VoiceModel,
    population: Population,
    pieces: list[Piece],
    belief: Belief,
    random: np.random.Generator,
    data: Path,
) -> tuple[Floats, Edges]:
    """Write the recording whose answer is expected to tell most; its embedding, and where answers change."""
    vectors = np.stack([piece.vector for piece in pieces])
    while True:
        chosen = random.integers(0, len(pieces), size=(CONSIDERED, PARTS))
        mixed = vectors[chosen].mean(axis=1)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        calibration, quality = population.calibration, next(iter(population.enrolled.values())).quality
        lines = Edges(calibration=calibration, quality=quality).of(SCORE_BANDS[1:])
        best = chosen[int(np.argmax(entropy(*belief.predict(mixed), lines)))]
        third = len(pieces[best[0]].samples) // PARTS
        samples = np.concatenate([pieces[number].samples[:third] for number in best])
        try:
            made = model.embed(Waveform(samples=samples, rate_hz=RATE_HZ))
        except AudioError:
            continue
        _write(data / "buckets" / BUCKET / "probe.wav", samples)
        return made.vector.astype(np.float64), Edges(calibration=calibration, quality=made.quality)


def _enroll(running: Running, domain_id: str, population: Population) -> None:
    bucket, requests = running.settings.data / "buckets" / BUCKET, []
    for name, samples in population.recordings.items():
        _write(bucket / f"{name}.wav", samples)
        audio = [{"S3Uri": f"s3://{BUCKET}/{name}.wav", "ChannelId": 0}]
        requests.append({"RequestId": name, "SpeakerId": name, "AudioSpecifications": audio})
    manifest = {"Version": "1.0", "SpeakerEnrollmentRequests": requests}
    (bucket / "manifest.json").write_text(json.dumps(manifest))
    job = running.finished(domain_id, running.start_job(domain_id, "manifest.json"), limit_s=300.0)
    if job.status != "COMPLETED":
        result = next((bucket / "results").rglob("*.out")).read_text()
        raise RuntimeError(f"the speakers could not be enrolled: {result[:500]}")


def _voiceprint(running: Running, domain_id: str, speaker_id: str) -> Floats:
    """Export a speaker's embedding as the owner, to hold the recovered template against."""
    stored = running.client("sonant").export_speaker(DomainId=domain_id, SpeakerId=speaker_id)
    return vector_from_bytes(stored["Voiceprint"]["Vector"]).astype(np.float64)


def _attacker(running: Running, data: Path) -> Any:
    """Make a user that may neither read exact scores nor export speakers; its client."""
    policy = data / "attacker.json"
    policy.write_text(POLICY)
    for command in (
        ("access", "user", "put", "attacker", "--policy", str(policy)),
        ("access", "create", "--user", "attacker", "--profile", "attacker"),
    ):
        subprocess.run(
            [sys.executable, "-m", "sonant", *command, "--data", str(data)], check=True, capture_output=True
        )
    return client(running.settings, "sonant", profile="attacker")


def _write(path: Path, samples: Any) -> None:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    path.write_bytes(out.getvalue())
