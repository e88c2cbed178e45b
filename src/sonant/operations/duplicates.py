"""Sonant's own ListVoiceDuplicates: enrolled speakers of a domain with the same voice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from sonant.errors import AccessDenied
from sonant.fairness import FairSlots
from sonant.jobs.calibration_cache import domain_calibration
from sonant.operations.paging import paged
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import READ_EXACT_SCORES, Answer, Caller, Request, Service
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import speaker_groups, voiceprints
from sonant.voice.calibration.model import Calibration
from sonant.voice.pairwise import similar_pairs

#: One pair by chance among ten million: a domain of 4,500 speakers would show about one.
ONE_IN = 10_000_000
#: Rates that callers who may not read exact scores may choose. Others would make a pair's presence an exact
#: measure of its similarity.
COARSE_ONE_IN = (100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
QUIET_DB = 30.0
#: Pairs of so many speakers with all others are in memory at a time.
ROWS = 4096
#: A search holds all voices of a domain in memory and uses a core for seconds: two at a time, one of them of
#: each account. Waiting would occupy a thread that other calls need.
SEARCHES = FairSlots(2, "Another search for duplicates is under way")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """The voices of a domain that can be compared: those of the voice model with most speakers."""

    model_id: str
    speaker_ids: tuple[str, ...]
    """Ascending."""
    vectors: NDArray[np.float32]
    """Shape [n, d], unit length."""
    speech_s: float
    """Net speech of the voiceprints, on average."""
    snr_db: NDArray[np.float64]
    """Shape [n]; where it was not measured, that of a quiet line."""
    left_out: int
    """Speakers whose voiceprints come from other models."""


@operation(executor=ExecutorKind.LONG)
def list_voice_duplicates(service: Service, caller: Caller, request: Request) -> Answer:
    """List pairs of speakers with the same voice. Raises Throttling while the account has
    another search."""
    with SEARCHES.held(caller.account_id):
        return _search(service, caller, request)


def _search(service: Service, caller: Caller, request: Request) -> Answer:
    one_in = request.get("OneFalseMatchIn", ONE_IN)
    rate = 1 / one_in
    domain_id = request["DomainId"]
    with service.open_domain(caller, domain_id, write=False) as (connection, domain, vault):
        exact = caller.may(READ_EXACT_SCORES, domain.arn)
        if not exact and one_in not in COARSE_ONE_IN:
            raise AccessDenied(
                f"OneFalseMatchIn {one_in} needs {READ_EXACT_SCORES} on {domain.arn}; without it, take a "
                f"power of ten from {COARSE_ONE_IN[0]} to {COARSE_ONE_IN[-1]}"
            )
        voices = load_voices(connection, vault, domain.domain_id)
        if voices is None:
            return {"Pairs": [], "SpeakersCompared": 0, "SpeakersLeftOut": 0, "ExpectedByChance": 0.0}
        scale = domain_calibration(connection, domain.domain_id, voices.model_id, service.calibration_of)
    # Outside of the transaction: it takes seconds.
    pairs, token = paged(
        service,
        request,
        ("ListVoiceDuplicates", caller.account_id, domain_id, repr(rate)),
        lambda after, limit: _take(voices, scale, rate, None if after is None else after[1], limit),
        lambda pair: (_EPOCH, pair.key),
    )
    with service.open_domain(caller, domain_id, write=False) as (connection, domain, vault):
        customer_ids = _customer_ids(connection, vault, domain.domain_id, pairs)
    count = len(voices.speaker_ids)
    return {
        "Pairs": [
            {
                "First": {"CustomerSpeakerId": customer_ids[pair.first], "GeneratedSpeakerId": pair.first},
                "Second": {"CustomerSpeakerId": customer_ids[pair.second], "GeneratedSpeakerId": pair.second},
                "Similarity": round(pair.similarity, 4) if exact else None,
                "FalseMatchRateLog10": round(pair.log10_rate, 1) if exact else _coarse_log10(pair.log10_rate),
            }
            for pair in pairs
            if {pair.first, pair.second} <= customer_ids.keys()
        ],
        "SpeakersCompared": count,
        "SpeakersLeftOut": voices.left_out,
        "ExpectedByChance": rate * count * (count - 1) / 2,
        "NextToken": token,
    }


def _coarse_log10(log10_rate: float) -> float:
    """Return the next greater of the rates in COARSE_ONE_IN, as a power of ten."""
    return float(max(math.ceil(log10_rate), -round(math.log10(COARSE_ONE_IN[-1]))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two speakers by generated id; `first` is the lesser."""

    first: str
    second: str
    similarity: float
    log10_rate: float
    """Log10 of the share of pairs of strangers that are at least so similar."""

    @property
    def key(self) -> str:
        return f"{self.first} {self.second}"


def find_pairs(voices: Voices, scale: Calibration, rate: float, *, after: str = "") -> Iterator[Pair]:
    """Find pairs more similar than all but `rate` of the pairs of strangers, in order of ids after `after`.

    The kind of line is not known for every voiceprint, so that the stricter calibration applies.
    """
    tail = scale.stricter_tail(voices.speech_s, float(np.median(voices.snr_db)), math.log10(rate))
    ids = voices.speaker_ids
    first_id = after.partition(" ")[0]
    start = int(np.searchsorted(np.array(ids), first_id)) if first_id else 0
    for top in range(start, len(ids), ROWS):
        found: list[Pair] = []
        rows = range(top, min(top + ROWS, len(ids)))
        for block in similar_pairs(voices.vectors, at_least=tail.similarity_at(math.log10(rate)), rows=rows):
            found += [
                Pair(
                    first=ids[i],
                    second=ids[j],
                    similarity=float(similarity),
                    log10_rate=tail.log10_far(float(similarity)),
                )
                for i, j, similarity in zip(block.first, block.second, block.similarity, strict=True)
            ]
        yield from sorted((pair for pair in found if pair.key > after), key=lambda pair: pair.key)


def load_voices(connection: Connection, vault: Vault, domain_id: str) -> Voices | None:
    """Load the voices of the model that made most of a domain's voiceprints; None without any."""
    makers = voiceprints.count_by_model(connection, domain_id)
    if not makers:
        return None
    model_id = max(makers, key=lambda name: makers[name])
    ids: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    noise: list[float] = []
    seconds = 0.0
    for speaker_id, sample in voiceprints.enrolled(connection, vault, domain_id, model_id):
        ids.append(speaker_id)
        vectors.append(sample.vector)
        noise.append(QUIET_DB if sample.quality.snr_db is None else sample.quality.snr_db)
        seconds += sample.quality.net_speech_s
    return Voices(
        model_id=model_id,
        speaker_ids=tuple(ids),
        vectors=np.stack(vectors),
        speech_s=seconds / len(ids),
        snr_db=np.array(noise),
        left_out=sum(makers.values()) - len(ids),
    )


def _take(voices: Voices, scale: Calibration, rate: float, after: str | None, limit: int) -> list[Pair]:
    found = []
    for pair in find_pairs(voices, scale, rate, after=after or ""):
        found.append(pair)
        if len(found) == limit:
            break
    return found


def _customer_ids(connection: Connection, vault: Vault, domain_id: str, pairs: list[Pair]) -> dict[str, str]:
    """Find customer ids by generated id; speakers deleted during the search are left out."""
    wanted = {one for pair in pairs for one in (pair.first, pair.second)}
    known = speaker_groups.find_by_ids(connection, domain_id, wanted)
    return {speaker_id: speaker.customer_id(vault) for speaker_id, speaker in known.items()}
