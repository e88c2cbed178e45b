"""What a recording is like: band, codec before, second voice, and all figures together."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import soxr

from sonant.voice import inspection
from sonant.voice.audio.band import BandMeter, CodecMeter
from sonant.voice.audio.recording import Recording
from sonant.voice.inspection import inspect_recording
from sonant.voice.speakers import (
    MIN_PIECES,
    PIECE_S,
    contrast_between,
    pieces_of,
    second_voice,
    window_vectors,
)


def band_hz(samples, rate_hz, block_s=4.0):
    meter = BandMeter(rate_hz=rate_hz)
    size = int(block_s * rate_hz)
    for start in range(0, len(samples), size):
        meter.feed(samples[start : start + size])
    return meter.band_hz()


def limited(samples, to_hz, rate_hz=8000):
    """The same samples without what lies above `to_hz`."""
    return soxr.resample(soxr.resample(samples, rate_hz, 2 * to_hz), 2 * to_hz, rate_hz).astype(np.float32)


def decoded(data):
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def codec(data):
    """The guess for a file, from its samples as they are stored."""
    recording = Recording.open(data, channel=0, strict=False, max_duration_s=1000)
    meter = CodecMeter()
    for block in recording.native_blocks():
        meter.feed(block)
    return meter.guess()


# --- band ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ["english", "russian"])
@pytest.mark.parametrize("to_hz", [2000, 2500, 3000])
def test_speech_that_was_cut_off_reaches_as_far_as_the_cut(spoken, voice, to_hz):
    assert band_hz(limited(spoken(voice, 20), to_hz), 8000) == pytest.approx(to_hz, abs=250)


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_telephone_speech_in_a_wide_file_is_seen(spoken, rate_hz):
    wide = soxr.resample(spoken("english", 20), 8000, rate_hz).astype(np.float32)
    assert 3500 < band_hz(wide, rate_hz) < 4100


def test_steady_noise_does_not_count_as_speech(spoken):
    speech = limited(spoken("english", 20), 2500)
    noise = np.random.default_rng(1).standard_normal(len(speech)).astype(np.float32) * speech.std() / 10
    assert band_hz(speech + noise, 8000) < 2800


def test_a_recording_without_signal_has_no_band():
    assert band_hz(np.zeros(80_000, np.float32), 8000) is None
    assert BandMeter(rate_hz=8000).band_hz() is None


# --- codec --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subtype", "name"),
    [("ULAW", "mu-law"), ("ALAW", "A-law"), ("GSM610", "13-bit (GSM 06.10 or AMR)"), ("PCM_16", "unknown")],
)
@pytest.mark.parametrize("voice", ["english", "french", "italian"])
def test_a_codec_is_known_by_its_grid_after_it_was_decoded(spoken, encoded, voice, subtype, name):
    once = decoded(encoded(spoken(voice, 10), subtype=subtype))
    assert codec(encoded(once)) == name


def test_a_recording_that_came_through_gsm_is_known(voices):
    assert codec(voices["french-armelle"][0].read_bytes()).startswith("13-bit")


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "GSM610"])
def test_a_change_of_level_wipes_the_grid_out_and_nothing_is_claimed(spoken, encoded, subtype):
    once = decoded(encoded(spoken("english", 10), subtype=subtype))
    assert codec(encoded(once * np.float32(0.7))) == "unknown"


def test_of_too_little_sound_no_codec_is_claimed(encoded):
    assert codec(encoded(np.zeros(80_000, np.float32), subtype="ULAW")) == "unknown"


# --- second voice -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pieces(spoken, models):
    """Embeddings of pieces of 40 s of each voice."""
    names = ["english", "french", "italian", "russian", "spanish"]
    return {
        name: window_vectors(np.split(spoken(name, 40 // PIECE_S * PIECE_S), int(40 // PIECE_S)), models)
        for name in names
    }


def test_one_person_gives_no_sign_of_a_second(pieces):
    for name, windows in pieces.items():
        found = second_voice(windows)
        assert found is not None
        assert not found.possible, name


def test_two_people_are_possible_whoever_they_are(pieces):
    for name, windows in pieces.items():
        for other, others in pieces.items():
            if other != name:
                found = second_voice(np.concatenate([windows[:9], others[:4]]))
                assert found is not None
                assert found.possible, (name, other)
                assert found.share == pytest.approx(4 / 13, abs=0.16)


def test_one_odd_piece_is_no_person(pieces):
    mixed = np.concatenate([pieces["english"][:12], pieces["russian"][:1]])
    found = second_voice(mixed)
    assert found is not None
    assert not found.possible


def test_with_little_speech_nothing_is_said(pieces, models):
    assert second_voice(pieces["english"][: MIN_PIECES - 1]) is None
    assert second_voice(window_vectors([], models)) is None


@pytest.mark.parametrize(
    ("spans_s", "lengths_s"),
    [
        ([(0, 1.5)], []),  # too short for a piece
        ([(0, 2)], [2]),
        ([(0, 6)], [3, 3]),
        ([(0, 1), (1.2, 2.2)], [2]),  # a short pause: the same turn
        ([(0, 2), (2.3, 4.3)], [2, 2]),  # a longer one: perhaps somebody else
        ([(0, 1), (5, 6), (10, 12)], [2]),
    ],
)
def test_pieces_do_not_reach_over_pauses(spans_s, lengths_s):
    spans = [(int(start * 8000), int(end * 8000)) for start, end in spans_s]
    found = pieces_of(np.arange(12 * 8000, dtype=np.float32), spans)
    assert [len(piece) / 8000 for piece in found] == pytest.approx(lengths_s)


def test_both_people_of_a_call_on_one_channel_are_a_possible_second_voice(make_call, models):
    call = soundfile.read(io.BytesIO(make_call("italian", 10, net_speech_s=40)), dtype="float32")[0]
    out = io.BytesIO()
    soundfile.write(out, np.clip(call.sum(axis=1), -1, 1), 8000, format="WAV", subtype="PCM_16")
    assert looked_at(out.getvalue(), models).second_voice.possible


def test_pieces_that_are_all_the_same_are_one_person():
    found = second_voice(np.tile(np.eye(1, 256, dtype=np.float32), (8, 1)))
    assert found is not None
    assert not found.possible
    assert found.contrast == pytest.approx(0, abs=1e-6)


def test_contrast_by_hand():
    one = np.array([[1, 0], [1, 0]], np.float32)
    other = np.array([[0, 1], [0.6, 0.8]], np.float32)
    assert contrast_between(one, other) == pytest.approx((1 + 0.8) / 2 - (0 + 0.6) / 2)


# --- all together -------------------------------------------------------------------------------------


def looked_at(data, models, channel=0, strict=False):
    return inspect_recording(data, channel=channel, strict=strict, max_duration_s=3600, models=models)


def test_a_call_is_described(make_call, models):
    found = looked_at(make_call("english", 1, net_speech_s=30, duration_s=60), models)
    assert found.fault == ""
    assert (found.container, found.encoding, found.rate_hz, found.channels) == ("WAV", "PCM-16", 8000, 2)
    assert found.duration_s == found.listened_s == pytest.approx(60)
    assert found.net_speech_s == pytest.approx(33, abs=5)
    assert found.snr_db == pytest.approx(30, abs=4)
    assert found.band_hz > 3500
    assert found.clipping_share == 0
    assert found.second_voice is not None
    assert not found.second_voice.possible


def test_a_file_that_is_no_recording_has_a_fault_and_no_figures(models):
    found = looked_at(b"text", models)
    assert found.fault == "not a recording: begins like none of WAV, FLAC, Ogg, MP3"
    assert found.net_speech_s is None


def test_what_lies_before_the_damage_is_described(spoken, encoded, models):
    whole = encoded(spoken("english", 20), kind="FLAC")
    found = looked_at(whole[: len(whole) // 2], models)
    assert found.fault.startswith(("damaged or truncated", "truncated"))
    assert found.container == "FLAC"
    assert 2 < found.net_speech_s < 15


def test_clipping_is_measured_on_the_speech(spoken, encoded, models):
    loud = np.clip(spoken("english", 15) * 20, -1, 1)
    assert looked_at(encoded(loud), models).clipping_share > 0.02


def test_a_long_recording_is_listened_to_for_a_while_only(make_call, models, monkeypatch):
    monkeypatch.setattr(inspection, "LISTEN_MOST_S", 10.0)
    found = looked_at(make_call("english", 1, net_speech_s=30, duration_s=60), models)
    assert found.listened_s == 10
    assert found.duration_s == pytest.approx(60)


def test_silence_is_described(encoded, models):
    found = looked_at(encoded(np.zeros(80_000, np.float32)), models)
    assert (found.fault, found.net_speech_s, found.band_hz, found.second_voice) == ("", 0, None, None)
