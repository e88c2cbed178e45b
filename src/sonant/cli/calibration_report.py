"""Limits and figures that all calibrations share."""

from __future__ import annotations

from sonant.errors import SetupError
from sonant.voice.calibration.model import log10_far_of

LEAST_SPEAKERS = 20
#: What a calibration must at least support: a score of 80.
MUST_SUPPORT_SCORE = 80
SHOWN_SCORES = (50, 80, 90, 95)


def require_enough_speakers(speakers: int) -> None:
    """Raise SetupError below LEAST_SPEAKERS."""
    if speakers < LEAST_SPEAKERS:
        raise SetupError(f"{speakers} speakers are too few to calibrate on: at least {LEAST_SPEAKERS}")


def refuse_unsupported(supported_log10_far: float) -> None:
    """Raise SetupError where the data do not support MUST_SUPPORT_SCORE."""
    if supported_log10_far > log10_far_of(MUST_SUPPORT_SCORE):
        raise SetupError(
            f"these data support no FAR below {percent(supported_log10_far)}, but a score of "
            f"{MUST_SUPPORT_SCORE} claims {percent(log10_far_of(MUST_SUPPORT_SCORE))}: "
            "calibrate on more speakers"
        )


def percent(log10_rate: float) -> str:
    """Write a rate, given as its base-10 logarithm, in percent."""
    return f"{100 * 10**log10_rate:.2g} %"
