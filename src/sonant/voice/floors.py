"""Decide whether audio is good enough to be scored: limits, and a reason for each that is not kept.

A voiceprint of damaged audio resembles nobody, or everybody whose audio is damaged in the same way. So such
audio is refused, at an enrollment with the reason and in a live call as speech that is not enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sonant.errors import PoorQuality
from sonant.voice.quality import Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFloors:
    """Limits of audio that is scored; the settings of the group `quality` have the same names."""

    min_level_dbfs: float = -60.0
    min_snr_db: float = 3.0
    min_band_hz: float = 500.0
    max_clipping_share: float = 0.1
    max_repeat_share: float = 0.8
    check_speed: bool = True
    """Whether speech that plays at the wrong speed is refused."""


def quality_faults(quality: Quality, floors: QualityFloors) -> tuple[str, ...]:
    """Name every limit that the audio does not keep: measured value, limit, setting, and what to do.

    A measure that was not taken is no fault.
    """
    return tuple(_faults(quality, floors))


def require_quality(quality: Quality, floors: QualityFloors) -> None:
    """Raise PoorQuality with all reasons unless every limit is kept."""
    if found := quality_faults(quality, floors):
        raise PoorQuality(found)


def _faults(quality: Quality, floors: QualityFloors) -> Iterator[str]:
    level, snr, band = quality.level_dbfs, quality.snr_db, quality.band_hz
    clipped, repeated = quality.clipping_share, quality.repeat_share
    if level is not None and level < floors.min_level_dbfs:
        yield (
            f"the speech has a level of {level:.0f} dBFS, at least {floors.min_level_dbfs:g} dBFS are needed "
            "(quality.min_level_dbfs): raise the gain before the recording is made"
        )
    if snr is not None and snr < floors.min_snr_db:
        yield (
            f"the speech is {snr:.0f} dB above the noise, at least {floors.min_snr_db:g} dB are needed "
            "(quality.min_snr_db): check that the file's encoding is the one of its header, or choose a "
            "recording with less noise"
        )
    if band is not None and band < floors.min_band_hz:
        yield (
            f"the speech has no sound above {band:.0f} Hz, at least {floors.min_band_hz:g} Hz are needed "
            "(quality.min_band_hz): check that the file's encoding and sample rate are those of its header"
        )
    if clipped is not None and clipped > floors.max_clipping_share:
        yield (
            f"{clipped:.0%} of the speech is at full scale, at most {floors.max_clipping_share:.0%} may be "
            "(quality.max_clipping_share): lower the gain before the recording is made"
        )
    if repeated is not None and repeated > floors.max_repeat_share:
        yield (
            f"{repeated:.0%} of the speech repeats other speech of the request, at most "
            f"{floors.max_repeat_share:.0%} may (quality.max_repeat_share): name different recordings"
        )
    if quality.speed is not None and floors.check_speed and quality.speed.is_wrong:
        yield (
            f"the speech plays too {quality.speed.direction} for a person (quality.check_speed): check that "
            "the sample rate of the header is the one of the samples"
        )
