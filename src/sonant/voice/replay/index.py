"""Which of many recordings may share a part with this one: an index of fingerprints in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.replay.fingerprint import Fingerprint, all_pairs, lookup, loud_pairs

#: One code in so many is indexed: always the same ones, so both sides choose alike.
_ONE_IN = 3
_MIXER, _MIXED_BITS = np.uint32(2654435761), np.uint32(8)  # Knuth's multiplicative hash; its upper bits
_MIN_VOTES = 3
_STEP_FRAMES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Pairs of some recordings, sorted by code; all [n]."""

    codes: NDArray[np.uint32]
    owners: NDArray[np.uint32]
    frames: NDArray[np.uint16]


class FingerprintIndex:
    """Fingerprints by whole numbers that rise with every one added. About 4 kB for 30 s of speech.

    Only candidates come out: whoever asks compares whole fingerprints (`fingerprint.shared`).
    """

    def __init__(self, most: int) -> None:
        """`most` recordings are held; then the oldest make room."""
        self._most = most
        self._runs: list[_Run] = []
        self._owners: list[int] = []

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, owner: int, found: Fingerprint) -> None:
        codes, frames = loud_pairs(found)
        chosen = _chosen(codes)
        count = int(np.count_nonzero(chosen))
        self._owners.append(owner)
        self._runs.append(
            _Run(
                codes=codes[chosen],
                owners=np.full(count, owner, np.uint32),
                frames=frames[chosen].astype(np.uint16),
            )
        )
        # Runs of like size become one, so there are few of them and each pair is moved few times.
        while len(self._runs) > 1 and len(self._runs[-2].codes) <= 2 * len(self._runs[-1].codes):
            self._runs[-2:] = [_merged(self._runs[-2:])]
        if len(self._owners) > self._most + self._most // 8:
            self._forget_oldest()

    def candidates(self, found: Fingerprint, limit: int) -> list[int]:
        """At most `limit` recordings that share the most at one distance in time, best first."""
        wanted, wanted_frames = all_pairs(found, tolerant=False)
        chosen = _chosen(wanted)
        wanted, wanted_frames = wanted[chosen], wanted_frames[chosen]
        owners, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for run in self._runs:
            place, query = lookup(run.codes, wanted)
            owners.append(run.owners[place].astype(np.int64))
            distances.append(wanted_frames[query] - run.frames[place] + (1 << 16))
        owner, distance = np.concatenate(owners), np.concatenate(distances)
        # Steps of distance overlap by half, so that agreement is not cut in two.
        halves = distance // _STEP_FRAMES
        keys, votes = np.unique(
            np.concatenate([owner << 20 | halves, owner << 20 | halves + 1]), return_counts=True
        )
        enough = votes >= _MIN_VOTES
        keys, votes = keys[enough], votes[enough]
        ordered = (keys[np.argsort(-votes, kind="stable")] >> 20).tolist()
        return list(dict.fromkeys(ordered))[:limit]

    def _forget_oldest(self) -> None:
        self._owners = self._owners[-self._most :]
        first = self._owners[0]
        whole = _merged(self._runs)
        kept = whole.owners >= first
        self._runs = [_Run(codes=whole.codes[kept], owners=whole.owners[kept], frames=whole.frames[kept])]


def _chosen(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return np.asarray((codes * _MIXER >> _MIXED_BITS) % _ONE_IN == 0, np.bool_)


def _merged(runs: list[_Run]) -> _Run:
    codes = np.concatenate([run.codes for run in runs])
    order = np.argsort(codes, kind="stable")
    return _Run(
        codes=codes[order],
        owners=np.concatenate([run.owners for run in runs])[order],
        frames=np.concatenate([run.frames for run in runs])[order],
    )
