"""Decide from embeddings of pieces of speech whether two people speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.speakers import separation
from sonant.voice.turns import SecondVoice, Span

Vectors = NDArray[np.float32]
Group = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of the speech of one voice of a window, in which no other voice speaks."""

    window: int
    voice: int
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        """The length in samples."""
        return sum(end - start for start, end in self.spans)


#: Log-odds of two people, by logistic regression on the speech of 235 people over four lines: 350 recordings
#: of one person and 489 of two or more, 10 and 30 s long, mixed as `sonant evaluate second-voice` mixes them.
#: There POSSIBLE flags 1.1 % of one person's and 73 % of the others, CERTAIN 0.3 % and 70 %; shares of 10 %
#: and bleeding at -20 dB are part of these.
SPLIT, UNLIKE, LOCAL, OVERLAP, BASE = 2.85, 10.45, 9.8, 8.2, -1.9
POSSIBLE, CERTAIN = 0.9, 1.4

#: Similarities from which on nothing speaks for two people: of pieces, and of the means of two groups by the
#: number of pieces in the smaller one, from 1 to 6 or more (the more pieces, the more alike are their means).
_ALIKE_PIECES, _ALIKE_GROUPS = 0.6, (0.45, 0.50, 0.55, 0.62, 0.68, 0.70)
#: Weighted separation (see `_balance`) of what is spoken before a moment from what is spoken after it, from
#: which on somebody else has taken over. The greatest of 324 recordings of one person was 0.29.
HAND_OVER = 0.31
#: Similarity of the mean of what is spoken before a moment to that of what is spoken after it, up to which
#: somebody else may have taken over: one person on another telephone, or in another room, is more like. Of 76
#: hand-overs between two of 96 people the greatest had 0.46, of 157 recordings of one person the least 0.56.
_OTHER_PERSON = 0.51
#: Numbers of windows, and the similarity from which on they are alike (see `are_alike`). Of 110 recordings of
#: one of 96 people 74 % (10 s of speech) and 90 % (30 s) are; of 233 in which a second voice is found, two.
_ALIKE_WINDOWS = ((7, 17), (0.60, 0.535))
_FEWEST_WINDOWS = 3
_MIN_SIDE = 2  # pieces on either side
_NEARLY = 0.9  # of the separation of any two groups, for the simpler explanation to be taken

_USUAL_OVERLAP = 0.05  # one person's speech has as much by mistake
_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the segmentation network found in all windows together."""

    second_share: float
    """Speech of all voices but the first of a window, as a share; the mean over windows."""
    overlap: float
    """Share of speech in which two voices are active."""


def are_alike(windows: Vectors) -> bool:
    """Judge from the windows of speech, [n, d], whether they are so alike that nobody else can be among them.

    Two windows must be similar enough to all others together: the two that are least.
    """
    count = len(windows)
    if count < _FEWEST_WINDOWS:
        return False
    whole = windows.sum(axis=0, dtype=np.float64)
    others = whole - windows
    similar = np.einsum("ij,ij->i", windows, others) / np.sqrt(np.einsum("ij,ij->i", others, others))
    return float(np.sort(similar)[:2].mean()) >= float(np.interp(count, *_ALIKE_WINDOWS))


def second_voice(pieces: Sequence[Piece], vectors: Vectors, group: Group, activity: Activity) -> SecondVoice:
    """Decide whether the two groups of pieces are two people, or two people talk at once.

    Pieces are in the order in which they were spoken; `group` is that of `split_in_two`.
    """
    apart = separation(vectors[group], vectors[~group]) if group.any() and not group.all() else 0.0
    odds = (
        BASE
        + SPLIT * apart * _balance(group)
        + UNLIKE * _unlike_groups(vectors, group)
        + LOCAL * np.sqrt(activity.second_share * _unlike_voices(pieces, vectors))
        + OVERLAP * max(0.0, activity.overlap - _USUAL_OVERLAP)
    )
    sizes = np.array([piece.size for piece in pieces], np.float64)
    share = float(min(sizes[group].sum(), sizes[~group].sum()) / sizes.sum()) if len(pieces) else 0.0
    handed_over = _is_handed_over(vectors, group)
    possible = handed_over or bool(odds >= POSSIBLE)
    return SecondVoice(
        possible=possible,
        certain=handed_over or bool(odds >= CERTAIN),
        share=max(share, activity.overlap / 2) if possible else 0.0,
        overlap=activity.overlap,
        separation=apart if len(pieces) > 1 else None,
    )


def split_in_two(vectors: Vectors) -> Group:
    """Split embeddings of pieces, in order, in two groups; [n], the larger group is False.

    The groups are what lies before and after a moment if that alone shows two people, else those of two-means
    on directions from the two least similar embeddings. Fewer than two embeddings are one group.
    """
    if len(vectors) < 2:
        return np.zeros(len(vectors), np.bool_)
    sides = [np.arange(len(vectors)) >= at for at in range(_MIN_SIDE, len(vectors) - _MIN_SIDE + 1)]
    later = max(sides, key=lambda side: _weighted_separation(vectors, side), default=None)
    group = _two_means(vectors)
    if later is not None and _is_handed_over(vectors, later):
        nearly = _NEARLY * _weighted_separation(vectors, group)
        group = later if _weighted_separation(vectors, later) >= nearly else group
    return ~group if group.sum() > len(group) / 2 else group


def _two_means(vectors: Vectors) -> Group:
    similar = vectors @ vectors.T
    one, other = np.unravel_index(np.argmin(similar), similar.shape)
    group: Group = similar[one] > similar[other]
    for _ in range(_ROUNDS):
        if group.all() or not group.any():
            break
        nearer = vectors @ (_unit(vectors[group].sum(axis=0)) - _unit(vectors[~group].sum(axis=0)))
        again = nearer > 0
        if np.array_equal(again, group):
            break
        group = again
    return group


def _is_handed_over(vectors: Vectors, group: Group) -> bool:
    """Whether one group is all that is spoken after a moment, and another person's."""
    changes = np.flatnonzero(np.diff(group))
    if len(changes) != 1 or not _MIN_SIDE <= changes[0] + 1 <= len(group) - _MIN_SIDE:
        return False
    return (
        _weighted_separation(vectors, group) >= HAND_OVER
        and _similarity_of_means(vectors, group) <= _OTHER_PERSON
    )


def _weighted_separation(vectors: Vectors, group: Group) -> float:
    return separation(vectors[group], vectors[~group]) * _balance(group)


def _similarity_of_means(vectors: Vectors, group: Group) -> float:
    return float(_unit(vectors[group].sum(axis=0)) @ _unit(vectors[~group].sum(axis=0)))


def _balance(group: Group) -> float:
    """Weigh a separation by the sizes of the groups: it is the surer the more pieces both have."""
    count = len(group)
    return float(np.sqrt(group.sum() * (~group).sum() / count)) if count else 0.0


def _unlike_groups(vectors: Vectors, group: Group) -> float:
    """Measure by how much the groups' mean embeddings are less similar than one person's; 0..1.5."""
    count, second = len(group), int(group.sum())
    if second == 0:
        return 0.0
    alike = _similarity_of_means(vectors, group)
    # Few pieces, and above all a single one, are unlike by chance.
    sure = min(1.0, (count - 1) / 4) * (1.0 if second > 1 else 0.5)
    return max(0.0, _ALIKE_GROUPS[min(second, len(_ALIKE_GROUPS)) - 1] - alike) * sure


def _unlike_voices(pieces: Sequence[Piece], vectors: Vectors) -> float:
    """Measure by how much the voices that the network separated in a window are unlike; 0..1.6."""
    window = np.array([piece.window for piece in pieces])
    voice = np.array([piece.voice for piece in pieces])
    pairs = (window[:, None] == window) & (voice[:, None] != voice)
    return max(0.0, _ALIKE_PIECES - float((vectors @ vectors.T)[pairs].mean())) if pairs.any() else 0.0


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / np.sqrt(np.sum(vector**2)), np.float32)
