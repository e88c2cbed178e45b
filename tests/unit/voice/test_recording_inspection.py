"""Inspection of a recording: bandwidth, earlier codec, second voice, and all figures together."""

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
from sonant.voice.speakers import embed_pieces, separation


def band_hz(samples, rate_hz, block_s=4.0):
    meter = BandMeter(rate_hz=rate_hz)
    size = int(block_s * rate_hz)
    for start in range(0, len(samples), size):
        meter.push(samples[start : start + size])
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
        meter.push(block)
    return meter.guess()


# --- band ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ["english", "russian"])
@pytest.mark.parametrize("to_hz", [2000, 2500, 3000])
def test_band_of_low_passed_speech_ends_at_the_cut(spoken, voice, to_hz):
    assert band_hz(limited(spoken(voice, 20), to_hz), 8000) == pytest.approx(to_hz, abs=250)


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_band_of_telephone_speech_in_a_wideband_file(spoken, rate_hz):
    wide = soxr.resample(spoken("english", 20), 8000, rate_hz).astype(np.float32)
    assert 3500 < band_hz(wide, rate_hz) < 4100


def test_band_ignores_steady_noise(spoken):
    speech = limited(spoken("english", 20), 2500)
    noise = np.random.default_rng(1).standard_normal(len(speech)).astype(np.float32) * speech.std() / 10
    assert band_hz(speech + noise, 8000) < 2800


def test_silence_has_no_band():
    assert band_hz(np.zeros(80_000, np.float32), 8000) is None
    assert BandMeter(rate_hz=8000).band_hz() is None


# --- codec --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subtype", "name"),
    [("ULAW", "mu-law"), ("ALAW", "A-law"), ("GSM610", "13-bit (GSM 06.10 or AMR)"), ("PCM_16", "unknown")],
)
@pytest.mark.parametrize("voice", ["english", "french", "italian"])
def test_codec_is_guessed_from_decoded_samples(spoken, encoded, voice, subtype, name):
    once = decoded(encoded(spoken(voice, 10), subtype=subtype))
    assert codec(encoded(once)) == name


def test_codec_of_a_recording_from_gsm(voices):
    assert codec(voices["french-armelle"][0].read_bytes()).startswith("13-bit")


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "GSM610"])
def test_codec_is_unknown_after_a_change_of_level(spoken, encoded, subtype):
    once = decoded(encoded(spoken("english", 10), subtype=subtype))
    assert codec(encoded(once * np.float32(0.7))) == "unknown"


def test_codec_of_silence_is_unknown(encoded):
    assert codec(encoded(np.zeros(80_000, np.float32), subtype="ULAW")) == "unknown"


# --- second voice -------------------------------------------------------------------------------------


def test_pieces_are_cut_evenly_from_the_speech(spoken, models):
    samples = spoken("english", 12)
    second = 8000
    assert embed_pieces(samples, [(0, second)], models, most=9).shape[0] == 0, "too short for a piece"
    assert embed_pieces(samples, [(0, 5 * second)], models, most=9).shape == (2, 256)
    assert embed_pieces(samples, [(0, 2 * second), (4 * second, 12 * second)], models, most=3).shape[0] == 3


def test_both_sides_of_a_call_on_one_channel_give_a_second_voice(make_call, models):
    call = soundfile.read(io.BytesIO(make_call("italian", 10, net_speech_s=40)), dtype="float32")[0]
    out = io.BytesIO()
    soundfile.write(out, np.clip(call.sum(axis=1), -1, 1), 8000, format="WAV", subtype="PCM_16")
    assert inspected(out.getvalue(), models).second_voice.possible


def test_separation_equals_a_hand_computed_value():
    one = np.array([[1, 0], [1, 0]], np.float32)
    other = np.array([[0, 1], [0.6, 0.8]], np.float32)
    assert separation(one, other) == pytest.approx((1 + 0.8) / 2 - (0 + 0.6) / 2)


# --- all together -------------------------------------------------------------------------------------


def inspected(data, models, channel=0, strict=False):
    return inspect_recording(data, channel=channel, strict=strict, max_duration_s=3600, models=models)


def test_inspection_of_a_call(make_call, models):
    found = inspected(make_call("english", 1, net_speech_s=30, duration_s=60), models)
    assert found.fault == ""
    assert (found.container, found.encoding, found.rate_hz, found.channels) == ("WAV", "PCM-16", 8000, 2)
    assert found.duration_s == found.analyzed_s == pytest.approx(60)
    assert found.net_speech_s == pytest.approx(33, abs=5)
    assert found.snr_db == pytest.approx(30, abs=4)
    assert found.band_hz > 3500
    assert found.clipping_share == 0
    assert found.second_voice is not None
    assert not found.second_voice.possible


def test_inspection_of_another_file_has_a_fault_and_no_figures(models):
    found = inspected(b"text", models)
    assert found.fault == "not a recording: it is text; send the recording itself"
    assert found.net_speech_s is None


def test_inspection_covers_the_part_before_damage(spoken, encoded, models):
    whole = encoded(spoken("english", 20), kind="FLAC")
    found = inspected(whole[: len(whole) // 2], models)
    assert found.fault.startswith(("damaged or truncated", "truncated"))
    assert found.container == "FLAC"
    assert 2 < found.net_speech_s < 15


def test_clipping_is_measured_on_speech(spoken, encoded, models):
    loud = np.clip(spoken("english", 15) * 20, -1, 1)
    assert inspected(encoded(loud), models).clipping_share > 0.02


def test_inspection_of_a_long_recording_is_bounded(make_call, models, monkeypatch):
    monkeypatch.setattr(inspection, "MAX_ANALYZED_S", 10.0)
    found = inspected(make_call("english", 1, net_speech_s=30, duration_s=60), models)
    assert found.analyzed_s == 10
    assert found.duration_s == pytest.approx(60)


def test_inspection_of_silence(encoded, models):
    found = inspected(encoded(np.zeros(80_000, np.float32)), models)
    assert (found.fault, found.net_speech_s, found.band_hz, found.second_voice) == ("", 0, None, None)
