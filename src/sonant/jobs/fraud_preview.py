"""Predict fraud detection of an enrollment job: known fraudsters and replays.

A replay is searched where the job would find one: among the domain's recordings, and among those that earlier
requests would have added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from sonant.jobs.calibration_cache import CalibrationCache, CalibrationOf
from sonant.jobs.fraud import Risk, known_fraudster, with_replay
from sonant.jobs.fraudster_gallery import FraudsterGallery
from sonant.jobs.inspect import InspectionResult
from sonant.jobs.job_type import EntryResult
from sonant.jobs.replay import CANDIDATES, ReplayDetector, ReplayMatch
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories.domains import Domain
from sonant.voice.replay.fingerprint import Fingerprint, shared
from sonant.voice.replay.index import FingerprintIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRef:
    """The place where a request's speaker would be enrolled."""

    connection: Connection
    vault: Vault
    domain_id: str
    speaker_id: str | None
    """None for a new speaker."""


class FraudPreview:
    """Predicts the risks of one dry run; a `dedup_key` identifies a speaker."""

    def __init__(
        self, watchlist_id: str | None, replay_recordings: int, calibration_of: CalibrationOf
    ) -> None:
        """Use the default watchlist unless another is named; remember `replay_recordings` recordings."""
        self._calibration_of = calibration_of
        self._watchlist_id, self._capacity = watchlist_id, replay_recordings
        self._gallery: FraudsterGallery | None = None
        self._replays: ReplayDetector | None = None
        self._index = FingerprintIndex(replay_recordings)
        self._accepted: list[tuple[bytes, bytes]] = []  # dedup key and fingerprint, by number in the index

    def load(self, connection: Connection, vault: Vault, domain_id: str, most: int) -> bool:
        """Read up to `most` of the domain's fingerprints, as `ReplayDetector.load` does."""
        if self._replays is None:
            self._replays = ReplayDetector(domain_id, self._capacity)
        return self._replays.load(connection, vault, most)

    def risks(
        self, connection: Connection, domain: Domain, vault: Vault, results: Mapping[str, EntryResult]
    ) -> dict[str, Risk]:
        """Score the known-fraudster risk of each voice that would be enrolled, under the same keys."""
        voices = {
            name: one.domain_sample
            for name, one in results.items()
            if isinstance(one, InspectionResult) and one.domain_sample is not None
        }
        if not voices:
            return {}
        if self._gallery is None:
            self._gallery = FraudsterGallery(
                domain.domain_id, self._watchlist_id or domain.default_watchlist_id
            )
        self._gallery.refresh(connection, vault, domain.fraudsters_version)
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

    def with_risks(
        self, result: EntryResult, dedup_key: bytes, known: Risk | None, entry: EntryRef | None
    ) -> EntryResult:
        """Add all risks to a result; without an `entry` only the manifest itself is searched for replays."""
        if not isinstance(result, InspectionResult) or result.refusal is not None:
            return result
        risks = result.risks
        if result.fingerprint is not None:
            replay = self._replay(Fingerprint.from_bytes(result.fingerprint), dedup_key, entry)
            risks = with_replay(risks, replay)
        return replace(result, risks=risks if known is None else (known, *risks))

    def accept(self, dedup_key: bytes, fingerprint: bytes) -> None:
        """Remember the recording of a request that would be enrolled."""
        self._index.add(len(self._accepted), Fingerprint.from_bytes(fingerprint))
        self._accepted.append((dedup_key, fingerprint))

    def _replay(
        self, fingerprint: Fingerprint, dedup_key: bytes, entry: EntryRef | None
    ) -> ReplayMatch | None:
        if entry is not None:
            if self._replays is None:
                self._replays = ReplayDetector(entry.domain_id, self._capacity)
            self._replays.refresh(entry.connection, entry.vault)
            stored = self._replays.find(entry.connection, entry.vault, fingerprint, entry.speaker_id)
            if stored is not None:
                return stored
        for number in self._index.candidates(fingerprint, CANDIDATES):
            owner, earlier = self._accepted[number]
            if owner == dedup_key:
                continue
            common = shared(Fingerprint.from_bytes(earlier), fingerprint)
            if common.is_copy:
                return ReplayMatch(speaker_id="", pairs=common.pairs)  # the speaker has no id yet
        return None
