"""Enrolled speakers with made-up voices: how alike any two are is known."""

from __future__ import annotations

import numpy as np
from made_samples import made_sample

from sonant.ids import new_generated_id
from sonant.storage.crypto.vault import open_vault
from sonant.storage.repositories import domains, speakers
from sonant.voice.models import shipped_encoder_id

DIMENSIONS = 256


def strangers(count: int, seed: int = 0, spread: float = 0.12) -> np.ndarray:
    """Voices whose similarities lie around 0 with about this deviation; unit length, [count, 256]."""
    random = np.random.default_rng(seed)
    # In fewer directions voices are less apart: 1 / sqrt(k) is the deviation of cosines in k dimensions.
    vectors = np.zeros((count, DIMENSIONS), np.float32)
    used = round(1 / spread**2)
    vectors[:, :used] = random.normal(size=(count, used))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def like(voice: np.ndarray, similarity: float, seed: int = 99) -> np.ndarray:
    """A voice that is so alike."""
    random = np.random.default_rng(seed).normal(size=DIMENSIONS)
    other = random - voice * (random @ voice)
    other /= np.linalg.norm(other)
    alike: np.ndarray = (similarity * voice + np.sqrt(1 - similarity**2) * other).astype(np.float32)
    return alike


def enroll(operations, domain_id, voices, *, model_id=None, prefix="caller", highpass_300hz=None):
    """Speakers `caller-0` and so on; their generated ids."""
    model_id = model_id or shipped_encoder_id()
    made = []
    with operations.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        vault = open_vault(operations.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
        for number, vector in enumerate(voices):
            speaker_id = new_generated_id()
            seal = speakers.add(
                connection,
                vault,
                domain_id=domain_id,
                speaker_id=speaker_id,
                customer_id=f"{prefix}-{number}",
                status="PENDING",
                now=operations.clock(),
            )
            sample = made_sample(vector, model_id=model_id, snr_db=25.0, highpass_300hz=highpass_300hz)
            speakers.enroll(connection, seal, speaker_id, sample, operations.clock())
            made.append(speaker_id)
    return made
