"""Make sure that speech for a voiceprint is one person's: refuse a second voice, or leave it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech, SecondSpeaker
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.enrollment import Speech
from sonant.voice.models import Models
from sonant.voice.models.embedding import EncodedSpeech
from sonant.voice.turn_detection import find_turns
from sonant.voice.turns import SecondVoice, take

REFUSE, WARN, IGNORE = "refuse", "warn", "ignore"
#: What happens to recordings in which a second person speaks. REFUSE fails them where that is certain; where
#: it is only possible, and always with WARN, the voiceprint is made of the speech of who speaks most, and a
#: warning is logged. IGNORE does not look, and uses all speech.
POLICIES = (REFUSE, WARN, IGNORE)

_TRIES = 3
_MARGIN_S = 2.0  # speech to collect beyond what the share found so far would need


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleVoice:
    """Speech of one person."""

    speech: Speech
    second_voice: SecondVoice | None = None
    """What was found in all the speech; None where nothing was looked for."""
    encoded: EncodedSpeech | None = None
    """The speech by the shipped encoder, where it was used to look for a second voice."""


def keep_single_voice(speech: Speech, models: Models, policy: str) -> SingleVoice:
    """Keep the speech of the person who speaks most, alone.

    Without a second voice, and with IGNORE, that is all of it. Raises SecondSpeaker if the policy refuses,
    NotEnoughSpeech under 1.6 s.
    """
    if policy == IGNORE:
        return SingleVoice(speech=speech)
    encoded = EncodedSpeech.of(speech.samples, models)
    turns = find_turns(speech.samples, models, encoded=encoded)
    found = turns.second_voice
    if found.certain and policy == REFUSE:
        raise SecondSpeaker(found.share, found.overlap, speech.net_speech_s)
    if found.possible:
        own = _with_samples(speech, take(speech.samples, turns.alone(0)))
        return SingleVoice(speech=own, second_voice=found)
    return SingleVoice(speech=speech, second_voice=found, encoded=encoded)


def collect_single_voice(
    collect: Callable[[float], Speech], *, need_s: float, models: Models, policy: str
) -> SingleVoice:
    """Collect `need_s` seconds of one person's speech.

    `collect` collects some seconds of anybody's speech, always from the start; it is called again for more
    when some of it is another person's. Raises SecondSpeaker if the policy refuses, NotEnoughSpeech when
    too little of the first person's speech is left, and what `collect` raises.
    """
    wanted_s, have_s = need_s, 0.0
    for _ in range(_TRIES):
        speech = collect(wanted_s)
        found = keep_single_voice(speech, models, policy)
        have_s = found.speech.net_speech_s
        if have_s >= need_s:
            need = round(need_s * RATE_HZ)
            if len(found.speech.samples) == need:
                return found
            first = _with_samples(found.speech, found.speech.samples[:need])
            return replace(found, speech=first, encoded=None)
        wanted_s = need_s * speech.net_speech_s / max(have_s, 1.0) + _MARGIN_S
    raise NotEnoughSpeech(have_s, need_s)


def _with_samples(speech: Speech, samples: NDArray[np.float32]) -> Speech:
    quality = replace(speech.quality, net_speech_s=len(samples) / RATE_HZ)
    return replace(speech, samples=samples, quality=quality)
