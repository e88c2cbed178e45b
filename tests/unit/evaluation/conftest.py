"""Outcomes whose right figures are known, made without audio."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sonant.evaluation.run import Line, Outcome


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    """All of `speakers` against all, `each` times: genuine scores about 3 (spread 1), impostor about 0.

    With `calibrated`, scores carry their true likelihood ratio and the score of their true FAR. `failed`
    probes, the first genuine ones, gave no template.
    """

    def make(
        speakers: int = 8, each: int = 60, *, calibrated: bool = False, failed: int = 0, seed: int = 1
    ) -> Outcome:
        rng = np.random.default_rng(seed)
        one, two = (places.repeat(each) for places in np.nonzero(np.ones((speakers, speakers), np.bool_)))
        genuine = one == two
        raw = np.where(genuine, rng.normal(3, 1, len(one)), rng.normal(0, 1, len(one)))
        raw[np.flatnonzero(genuine)[:failed]] = np.nan
        far = np.array([_tail(value) for value in raw])
        score = np.interp(-np.log10(far), [0, 1, 2, 3, 5], [0, 50, 80, 90, 100])
        return Outcome(
            line=Line(),
            enroll_s=30.0,
            test_s=10.0,
            speakers=tuple(f"speaker-{number}" for number in range(speakers)),
            reference_speaker=one,
            probe_speaker=two,
            pieces=np.stack([one, np.arange(len(two))], axis=1),
            genuine=genuine,
            raw=raw,
            speech_s=np.where(np.isnan(raw), np.nan, 10.0),
            snr_db=np.where(np.isnan(raw), np.nan, 30.0),
            score=np.where(np.isnan(raw), np.nan, score) if calibrated else None,
            llr=3 * raw - 4.5 if calibrated else None,
            references=speakers,
            references_failed=0,
            probes=speakers * each,
            probes_failed=failed,
            unreadable=0,
        )

    return make


def _tail(value: float) -> float:
    from statistics import NormalDist

    return 1.0 if np.isnan(value) else max(NormalDist().cdf(-value), 1e-12)
