"""Index fingerprints in memory to find recordings that may share a part with a new one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.replay.fingerprint import Fingerprint, all_pairs, lookup, loud_pairs

#: One code in this many is indexed; the choice depends on the code alone, so both sides choose the same.
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
    """Indexes fingerprints under integers that rise with every addition. About 4 kB for 30 s of speech.

    It returns candidates only; compare whole fingerprints (`fingerprint.shared`) to confirm them.
    """

    def __init__(self, capacity: int) -> None:
        """Hold the newest `capacity` recordings; older ones are dropped."""
        self._capacity = capacity
        self._runs: list[_Run] = []
        self._owners: list[int] = []

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, owner: int, found: Fingerprint) -> None:
        """Add a recording under a number greater than all before."""
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
        # Runs of similar size are merged, so there are few of them and each pair is moved few times.
        while len(self._runs) > 1 and len(self._runs[-2].codes) <= 2 * len(self._runs[-1].codes):
            self._runs[-2:] = [_merged(self._runs[-2:])]
        if len(self._owners) > self._capacity + self._capacity // 8:
            self._drop_oldest()

    def retain(self, owners: Collection[int]) -> None:
        """Drop all recordings but those of these numbers. Numbers that are not indexed do nothing."""
        present = set(owners)
        if present.issuperset(self._owners):
            return
        self._owners = [owner for owner in self._owners if owner in present]
        if not self._owners:
            self._runs = []
            return
        whole = _merged(self._runs)
        stays = np.isin(whole.owners, np.array(self._owners, np.uint32))
        self._runs = [_Run(codes=whole.codes[stays], owners=whole.owners[stays], frames=whole.frames[stays])]

    def candidates(self, found: Fingerprint, limit: int) -> list[int]:
        """Find at most `limit` recordings that share most pairs at one distance in time, best first."""
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

    def _drop_oldest(self) -> None:
        self._owners = self._owners[-self._capacity :]
        first = self._owners[0]
        whole = _merged(self._runs)
        newest = whole.owners >= first
        self._runs = [
            _Run(codes=whole.codes[newest], owners=whole.owners[newest], frames=whole.frames[newest])
        ]


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
