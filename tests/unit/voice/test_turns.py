"""Who speaks when: turns of real voices, composed; whole recordings and streams give the same result."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.errors import NotEnoughSpeech, SecondSpeaker
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.enrollment import Speech
from sonant.voice.models.embedding import EncodedSpeech, embed
from sonant.voice.models.segmentation import FIRST_FRAME, FRAME_STEP, WINDOW, segment
from sonant.voice.quality import Quality
from sonant.voice.single_voice import IGNORE, REFUSE, WARN, collect_single_voice, keep_single_voice
from sonant.voice.speech import SpeechDetector
from sonant.voice.turn_detection import find_turns
from sonant.voice.turns import NOBODY_ELSE, SpeakerTurns, Turn, length, subtract, take
from sonant.voice.voice_groups import are_alike


@pytest.fixture(scope="module")
def speech(spoken, models):
    """Seconds of a voice without its pauses, at -26 dBFS."""
    kept = {}

    def of(voice, seconds):
        if voice not in kept:
            samples = spoken(voice, 60)
            detector = SpeechDetector(models)
            spans = [*detector.push(samples), *detector.finish()]
            net = take(samples, spans)
            kept[voice] = net * np.float32(0.05 / np.sqrt(np.mean(net**2)))
        assert len(kept[voice]) >= seconds * RATE_HZ
        return kept[voice][: int(seconds * RATE_HZ)]

    return of


def handed_over(speech, one, other, first_s, second_s):
    return np.concatenate([speech(one, first_s), speech(other, second_s)])


# --- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "others", "left"),
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(2, 4)], [(0, 2), (4, 10)]),
        ([(0, 10)], [(0, 10)], []),
        ([(0, 4), (6, 10)], [(3, 7)], [(0, 3), (7, 10)]),
        ([(0, 10)], [(10, 20), (8, 9)], [(0, 8), (9, 10)]),
    ],
)
def test_subtracted_spans_leave_the_rest(spans, others, left):
    assert sorted(subtract(spans, others)) == left


def test_length_counts_overlapping_samples_once():
    assert length([(5, 8), (0, 6), (0, 2)]) == 8
    assert length([]) == 0


def test_alone_leaves_out_where_another_speaks():
    turns = SpeakerTurns(
        turns=(
            Turn(speaker=0, start=0, end=100),
            Turn(speaker=1, start=80, end=120),
            Turn(speaker=0, start=150, end=200),
        ),
        second_voice=NOBODY_ELSE,
    )
    assert turns.speakers == 2
    assert turns.spans(0) == ((0, 100), (150, 200))
    assert turns.alone(0) == ((0, 80), (150, 200))
    assert turns.alone(1) == ((100, 120),)


def test_take_joins_spans():
    samples = np.arange(10, dtype=np.float32)
    assert take(samples, [(1, 3), (7, 9)]).tolist() == [1, 2, 7, 8]
    assert take(samples, []).shape == (0,)


# --- the network --------------------------------------------------------------------------------------


def test_frames_cover_a_window(models):
    (active,) = segment([np.zeros(WINDOW, np.float32)], models)
    assert active.shape == (589, 3)
    assert not active.any(), "nobody speaks in silence"
    assert pytest.approx(WINDOW, abs=3 * FRAME_STEP) == FIRST_FRAME + 589 * FRAME_STEP


def test_windows_of_one_call_do_not_influence_each_other(speech, models):
    one, other = speech("english", 10), speech("italian", 10)
    together = segment([one, other], models)
    assert np.array_equal(together[0], segment([one], models)[0])
    assert np.array_equal(together[1], segment([other], models)[0])


# --- turns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ["english", "french", "italian", "russian", "spanish"])
def test_one_person_is_one_speaker(speech, models, voice):
    samples = speech(voice, 30)
    found = find_turns(samples, models)
    assert not found.second_voice.possible
    assert length(found.spans(0)) > 0.9 * len(samples)


@pytest.mark.parametrize(
    ("one", "other"), [("english", "italian"), ("italian", "spanish"), ("french", "italian-menardi")]
)
def test_a_change_of_speaker_without_a_gap_is_found_where_it_is(speech, models, one, other):
    found = find_turns(handed_over(speech, one, other, 12, 8), models)
    assert found.second_voice.certain
    assert found.second_voice.share == pytest.approx(0.4, abs=0.12)
    assert max(end for _, end in found.spans(0)) == pytest.approx(12 * RATE_HZ, abs=RATE_HZ)
    assert min(start for start, _ in found.spans(1)) == pytest.approx(12 * RATE_HZ, abs=RATE_HZ)


def test_two_people_at_once_overlap(speech, models):
    found = find_turns(speech("english", 20) + speech("italian", 20), models)
    assert found.second_voice.certain
    assert found.second_voice.overlap > 0.3


@pytest.mark.parametrize("seconds", [0, 0.1, 0.4])
def test_too_little_speech_has_no_turns(models, seconds):
    found = find_turns(np.zeros(int(seconds * RATE_HZ), np.float32), models)
    assert found.turns == ()
    assert found.speakers == 0
    assert found.second_voice == NOBODY_ELSE


# --- one person's speech ------------------------------------------------------------------------------


def as_speech(samples):
    return Speech(samples=samples, quality=Quality(net_speech_s=len(samples) / RATE_HZ), recordings_used=1)


def test_a_certain_second_voice_is_refused_with_its_share(speech, models):
    mixed = as_speech(handed_over(speech, "english", "italian", 12, 8))
    with pytest.raises(SecondSpeaker, match=r"about [34]\d% of 20\.0 s"):
        keep_single_voice(mixed, models, REFUSE)


def test_with_a_warning_the_second_voice_is_left_out(speech, models):
    mixed = as_speech(handed_over(speech, "english", "italian", 12, 8))
    found = keep_single_voice(mixed, models, WARN)
    assert found.second_voice is not None
    assert found.second_voice.possible
    assert 9 < found.speech.net_speech_s < 13
    assert found.speech.quality.net_speech_s == found.speech.net_speech_s
    assert not find_turns(found.speech.samples, models).second_voice.possible


def test_ignore_uses_all_speech(speech, models):
    mixed = as_speech(handed_over(speech, "english", "italian", 12, 8))
    found = keep_single_voice(mixed, models, IGNORE)
    assert found.speech is mixed
    assert found.second_voice is None


def test_more_is_collected_when_some_of_it_is_another_persons(speech, models):
    samples = np.concatenate(
        [speech("english", 8), speech("italian", 4), speech("english", 24)[8 * RATE_HZ :]]
    )
    asked = []

    def collect(need_s):
        asked.append(need_s)
        return as_speech(samples[: round(need_s * RATE_HZ)])

    found = collect_single_voice(collect, need_s=12.0, models=models, policy=WARN)
    assert found.speech.net_speech_s == 12.0
    assert asked[0] == 12.0
    assert len(asked) > 1


def test_too_little_of_one_persons_speech_is_not_enough(speech, models):
    mixed = handed_over(speech, "english", "italian", 8, 6)
    with pytest.raises(NotEnoughSpeech, match="at least 12"):
        collect_single_voice(lambda need_s: as_speech(mixed), need_s=12.0, models=models, policy=WARN)


# --- whether to look at all ---------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ["english", "french", "italian", "russian", "spanish"])
def test_windows_of_one_person_are_alike(speech, models, voice):
    assert are_alike(EncodedSpeech.of(speech(voice, 30), models).windows)


@pytest.mark.parametrize(("first_s", "second_s"), [(3, 7), (5, 5), (8, 2), (24, 6), (15, 15)])
def test_windows_of_two_people_are_not_alike(speech, models, first_s, second_s):
    samples = handed_over(speech, "italian", "spanish", first_s, second_s)
    assert not are_alike(EncodedSpeech.of(samples, models).windows)


def test_two_windows_are_too_few_to_be_alike():
    assert not are_alike(np.array([[1, 0], [1, 0]], np.float32))


def test_speech_without_a_second_voice_keeps_the_embedding_of_the_search(speech, models):
    found = keep_single_voice(as_speech(speech("english", 30)), models, REFUSE)
    assert found.encoded is not None
    np.testing.assert_array_equal(found.encoded.embedding.vector, embed(found.speech.samples, models).vector)
