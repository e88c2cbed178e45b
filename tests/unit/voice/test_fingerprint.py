"""Replay fingerprints: copies match over any line, other recordings of the same voice do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.errors import NotEnoughSpeech
from sonant.evaluation.channels import parse
from sonant.voice.replay.fingerprint import MIN_PAIRS, Fingerprint, fingerprint, shared
from sonant.voice.replay.index import FingerprintIndex
from sonant.voice.speech import analyze

VOICES = ("english", "french", "italian", "russian")


@pytest.fixture(scope="session")
def said(spoken, models):
    """Net speech of a voice, as the pipeline gathers it."""
    return lambda voice, seconds, first_clip=0, line="clean", gain=1.0: (
        analyze(
            parse(line).apply(spoken(voice, seconds, first_clip) * np.float32(gain), seed=[1]), models
        ).speech
    )


@pytest.mark.parametrize("line", ["g711", "gsm", "white:15+g711-a", "white:15+gsm", "narrow+pink:15+g711"])
@pytest.mark.parametrize("gain", [0.3, 1.0])
def test_copy_matches_over_every_line_and_level(said, line, gain):
    for voice in VOICES:
        before, now = fingerprint(said(voice, 12)), fingerprint(said(voice, 12, line=line, gain=gain))

        assert shared(before, now).is_copy


def test_three_seconds_of_a_recording_match(said):
    found = [
        shared(fingerprint(said(voice, 20)), fingerprint(said(voice, 20, line="g711")[start : start + 24000]))
        for voice in VOICES
        for start in (0, 30000, 60000)
    ]

    assert all(one.is_copy for one in found)


def test_other_recordings_of_a_voice_do_not_match(said):
    for voice in VOICES:
        assert not shared(fingerprint(said(voice, 15)), fingerprint(said(voice, 15, first_clip=30))).is_copy


def test_other_voices_do_not_match(said):
    marks = [fingerprint(said(voice, 15)) for voice in VOICES]
    found = [shared(a, b) for a in marks for b in marks if a is not b]

    assert max(one.pairs for one in found) < MIN_PAIRS


def test_less_than_three_seconds_raise_not_enough_speech():
    with pytest.raises(NotEnoughSpeech):
        fingerprint(np.zeros(23999, np.float32))


@pytest.mark.parametrize("seconds", [3, 30])
def test_noise_and_silence_do_not_match(seconds):
    rng = np.random.default_rng(0)
    hiss = [rng.standard_normal(seconds * 8000).astype(np.float32) for _ in range(2)]

    assert not shared(fingerprint(hiss[0]), fingerprint(hiss[1])).is_copy
    silence = fingerprint(np.zeros(seconds * 8000, np.float32))
    assert not shared(silence, silence).is_copy


def test_fingerprint_survives_storage(said):
    found = fingerprint(said("english", 10))
    stored = found.to_bytes()

    assert len(stored) == 4 * len(found.frames)
    assert Fingerprint.from_bytes(stored).to_bytes() == stored


@settings(max_examples=30)
@given(data=st.binary(max_size=400))
def test_any_stored_bytes_are_decoded_or_refused(data):
    if len(data) % 4:
        with pytest.raises(ValueError, match="multiple of 4"):
            Fingerprint.from_bytes(data)
    else:
        found = Fingerprint.from_bytes(data)
        assert len(found.frames) == len(found.bins) == len(found.ranks) == len(data) // 4


def test_index_ranks_the_copied_recording_first(said):
    index = FingerprintIndex(100)
    for number, voice in enumerate(VOICES, start=1):
        index.add(number, fingerprint(said(voice, 15)))

    copy = fingerprint(said("russian", 15, line="white:15+gsm"))

    assert index.candidates(copy, 4)[0] == 4


def test_full_index_drops_the_oldest(said):
    index = FingerprintIndex(8)
    mark, other = fingerprint(said("english", 10)), fingerprint(said("french", 10))
    index.add(1, mark)
    for number in range(2, 40):
        index.add(number, other)

    assert len(index) <= 9
    assert 1 not in index.candidates(mark, 4)
    assert set(index.candidates(other, 4)) <= set(range(31, 40))


def test_empty_index_has_no_candidates(said):
    assert FingerprintIndex(8).candidates(fingerprint(said("english", 10)), 4) == []
