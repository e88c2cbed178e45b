"""Fraud detection for those who foretell what an enrollment would find: known fraudsters and copies.

A copy is looked for where the job would find one: among the domain's recordings, and among those that the
requests before would have brought into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from sonant.jobs.calibration_cache import CalibrationCache, CalibrationOf
from sonant.jobs.fraud import Risk, known_fraudster, with_replay
from sonant.jobs.fraudster_gallery import FraudsterGallery
from sonant.jobs.inspect import InspectionResult
from sonant.jobs.job_type import Heard
from sonant.jobs.replay import CANDIDATES, ReplayDetector, ReplayMatch
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories.domains import Domain
from sonant.voice.replay.fingerprint import Fingerprint, shared
from sonant.voice.replay.index import FingerprintIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRef:
    """Where a request's speaker would be enrolled."""

    connection: Connection
    vault: Vault
    domain_id: str
    speaker_id: str | None
    """None for a new speaker."""


class Screening:
    """For one dry run; speakers are told apart by any mark."""

    def __init__(
        self, watchlist_id: str | None, replay_recordings: int, calibration_of: CalibrationOf
    ) -> None:
        """The domain's default list unless another is named; so many recordings are remembered."""
        self._calibration_of = calibration_of
        self._watchlist_id, self._most = watchlist_id, replay_recordings
        self._gallery: FraudsterGallery | None = None
        self._guard: ReplayDetector | None = None
        self._index = FingerprintIndex(replay_recordings)
        self._accepted: list[tuple[bytes, bytes]] = []  # mark and fingerprint, by number in the index

    def risks(
        self, connection: Connection, domain: Domain, vault: Vault, heard: Mapping[str, Heard]
    ) -> dict[str, Risk]:
        """The known-fraudster risk of each voice that would be enrolled, under the same names."""
        voices = {
            name: one.domain_sample
            for name, one in heard.items()
            if isinstance(one, InspectionResult) and one.domain_sample is not None
        }
        if not voices:
            return {}
        if self._gallery is None:
            self._gallery = FraudsterGallery(
                domain.domain_id, self._watchlist_id or domain.default_watchlist_id
            )
        self._gallery.follow(connection, vault, domain.fraudsters_version)
        matches = self._gallery.nearest(list(voices.values()))
        scales = CalibrationCache(connection, domain.domain_id, self._calibration_of)
        return {
            name: known_fraudster(
                match,
                self._gallery.size(sample.model_id),
                scales.of(sample.model_id).tail_for(sample.quality),
            )
            for (name, sample), match in zip(voices.items(), matches, strict=True)
        }

    def screened(self, heard: Heard, dedup_key: bytes, known: Risk | None, place: EntryRef | None) -> Heard:
        """What was heard, with all risks; without a `place` only the manifest itself is searched."""
        if not isinstance(heard, InspectionResult) or heard.refusal is not None:
            return heard
        risks = heard.risks
        if heard.fingerprint is not None:
            risks = with_replay(
                risks, self._copy(Fingerprint.from_bytes(heard.fingerprint), dedup_key, place)
            )
        return replace(heard, risks=risks if known is None else (known, *risks))

    def accept(self, dedup_key: bytes, fingerprint: bytes) -> None:
        """Remember the recording of a request that would be enrolled."""
        self._index.add(len(self._accepted), Fingerprint.from_bytes(fingerprint))
        self._accepted.append((dedup_key, fingerprint))

    def _copy(self, heard: Fingerprint, dedup_key: bytes, place: EntryRef | None) -> ReplayMatch | None:
        if place is not None:
            if self._guard is None:
                self._guard = ReplayDetector(place.domain_id, self._most)
            self._guard.follow(place.connection, place.vault)
            stored = self._guard.find(place.connection, place.vault, heard, place.speaker_id)
            if stored is not None:
                return stored
        for number in self._index.candidates(heard, CANDIDATES):
            owner, before = self._accepted[number]
            if owner == dedup_key:
                continue
            common = shared(Fingerprint.from_bytes(before), heard)
            if common.is_copy:
                return ReplayMatch(speaker_id="", pairs=common.pairs)  # of one who has no id yet
        return None
