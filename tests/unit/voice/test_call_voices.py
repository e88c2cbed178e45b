"""One person's speech out of a call of several people, with real voices."""

from __future__ import annotations

import numpy as np
import pytest
from live_testbed import customer
from mixed_speech import at_once, handed_over
from voice_models import voice_models

from sonant.voice.calibration.model import PartLimits
from sonant.voice.call_voices import SpeakerScore, part_spans, separate
from sonant.voice.collector import SpeechCollector
from sonant.voice.enrollment import Speech
from sonant.voice.models.embedding import encoder_input
from sonant.voice.speaker_change import are_two_people, find_change

SECOND = 8000
LIMITS = PartLimits(halves=80, thirds=70)
NEED = 10 * SECOND


@pytest.fixture(scope="module")
def models():
    return voice_models()


@pytest.fixture(scope="module")
def caller(make_call):
    def talk(voice, seed):
        return customer(make_call(voice, seed, net_speech_s=30, channels=1))

    return talk


def speech_of(call, speech_s, models):
    need = round(speech_s * SECOND)
    collector = SpeechCollector(models, need)
    collector.push(call.astype(np.float32) / 32768)
    window = collector.window(need)
    return Speech(samples=window.samples, quality=window.quality, recordings_used=0)


@pytest.mark.parametrize("voice", ["english", "french", "italian", "russian"])
@pytest.mark.parametrize("speech_s", [5, 7, 10])
def test_one_person_is_one_voice_and_all_of_the_speech(caller, models, voice, speech_s):
    speech = speech_of(caller(voice, 41), speech_s, models)
    separated = separate(speech, len(speech.samples), models)
    assert (separated.voices.count, separated.voices.missing, separated.each) == (1, 0, ())
    np.testing.assert_array_equal(separated.one, speech.samples)


@pytest.mark.parametrize(("first_s", "missing_s"), [(4, 4), (5, 5), (6, 4)])
def test_two_people_are_two_voices_and_neither_has_enough(caller, models, first_s, missing_s):
    call = handed_over(caller("english", 41), caller("russian", 42), first_s=first_s)
    separated = separate(speech_of(call, 10, models), NEED, models)
    assert separated.voices.count == 2
    assert separated.voices.missing / SECOND == pytest.approx(missing_s, abs=1.0)
    assert len(separated.each) == 2


def test_of_two_voices_with_enough_speech_the_last_one_is_taken(caller, models):
    # Given: eleven seconds of one person, then eleven of another
    call = handed_over(caller("english", 41), caller("russian", 42), first_s=11)
    speech = speech_of(call, 22, models)

    # When
    separated = separate(speech, NEED, models)

    # Then: it is the end of the speech
    assert (separated.voices.count, separated.voices.missing) == (2, 0)
    assert len(separated.one) == NEED
    own = np.isin(separated.one, speech.samples[11 * SECOND :]).mean()
    assert own > 0.98


def test_two_people_at_once_have_no_speech_of_their_own(caller, models):
    call = at_once(caller("english", 41), caller("russian", 42))
    separated = separate(speech_of(call, 10, models), NEED, models)
    assert separated.voices.count > 1
    assert separated.voices.missing > 2 * SECOND


@pytest.mark.parametrize(("speech_s", "parts"), [(5, 2), (8.9, 2), (9, 5), (30, 5)])
def test_parts_are_halves_and_thirds_of_three_seconds(speech_s, parts):
    count = round(speech_s * SECOND)
    found = part_spans(count)
    assert len(found) == parts
    for of_one_kind in filter(None, (found[:2], found[2:])):
        assert [first for first, _ in of_one_kind] == [0, *(end for _, end in of_one_kind[:-1])]
        assert of_one_kind[-1][1] == count
        lengths = [end - first for first, end in of_one_kind]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("first_s", [3, 5, 7])
def test_change_of_speaker_is_found_where_it_is(caller, models, first_s):
    call = handed_over(caller("french", 43), caller("italian", 44), first_s=first_s)
    change = find_change(encoder_input(speech_of(call, 10, models).samples), 10, models)
    assert change is not None
    assert are_two_people(change.similarity, snr_db=30)
    assert change.position / SECOND == pytest.approx(first_s, abs=0.8)


def test_speech_too_short_for_two_sides_has_no_change(caller, models):
    assert (
        find_change(encoder_input(speech_of(caller("french", 43), 3.9, models).samples), 3.9, models) is None
    )


# --- the score of speech and its parts


@pytest.mark.parametrize(
    ("whole", "parts", "value"),
    [
        (97, (), 97),  # not analyzed in parts
        (97, (80, 100), 97),  # both halves are the speaker's
        (97, (100, 79), 79),  # the second half is somebody else's
        (97, (92, 85, 100, 90, 70), 97),
        (97, (92, 85, 100, 90, 69), 69),  # the last third is
        (97, (30, 85, 12, 90, 90), 12),
        (40, (60, 20), 20),
        (40, (95, 60), 40),  # a part never raises the score
    ],
)
def test_score_is_that_of_the_weakest_part_that_is_too_weak(whole, parts, value):
    assert SpeakerScore(whole=whole, parts=parts, limits=LIMITS).value == value


def test_handover_is_what_only_the_parts_refuse():
    def is_handover(whole, parts, threshold):
        return SpeakerScore(whole=whole, parts=parts, limits=LIMITS).is_handover(threshold)

    assert is_handover(95, (100, 40), 90)
    assert not is_handover(95, (100, 40), 30)
    assert not is_handover(60, (100, 40), 90)
    assert not is_handover(95, (100, 95), 90)


def test_limits_of_parts_are_those_of_the_model():
    parts = (75, 92, 66, 90, 90)
    assert SpeakerScore(whole=97, parts=parts, limits=PartLimits(halves=75, thirds=66)).value == 97
    assert SpeakerScore(whole=97, parts=parts, limits=PartLimits(halves=76, thirds=66)).value == 75
    assert SpeakerScore(whole=97, parts=parts, limits=PartLimits(halves=75, thirds=67)).value == 66
