"""Audio formats: the recordings that are read, and their samples."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile

from sonant.errors import AudioError
from sonant.voice.audio.readers import FORMATS, MEDIA_TYPES
from sonant.voice.audio.recording import RATE_HZ, Recording, decode
from sonant.voice.audio.samples import (
    float_from_int16,
    float_from_pcm16,
    int16_from_float,
    pcm16_from_float,
)

LENIENT: dict[str, Any] = {"strict": False, "max_duration_s": 60.0}
STRICT: dict[str, Any] = {"strict": True, "max_duration_s": 60.0}


def tone(hz=440.0, rate_hz=8000, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(
        np.float32
    )


def level_at(samples, hz):
    """Amplitude of one frequency, ends left out."""
    inner = samples[800:-800] * np.hanning(len(samples) - 1600)
    angle = 2j * np.pi * hz * np.arange(len(inner)) / RATE_HZ
    return 4 * abs(np.mean(inner * np.exp(-angle)))


CASES = [
    # container, subtype, rate, largest error of the tone's amplitude
    ("WAV", "PCM_U8", 8000, 0.01),
    ("WAV", "PCM_16", 8000, 0.001),
    ("WAV", "PCM_24", 16000, 0.001),
    ("WAV", "PCM_32", 44100, 0.001),
    ("WAV", "FLOAT", 48000, 0.001),
    ("WAV", "DOUBLE", 8000, 0.001),
    ("WAV", "ALAW", 8000, 0.01),
    ("WAV", "ULAW", 8000, 0.01),
    ("WAVEX", "PCM_16", 8000, 0.001),
    ("WAVEX", "ULAW", 8000, 0.01),
    ("FLAC", "PCM_16", 8000, 0.001),
    ("FLAC", "PCM_24", 192000, 0.001),
    ("OGG", "VORBIS", 16000, 0.03),
    ("OGG", "OPUS", 48000, 0.03),
    ("OGG", "OPUS", 8000, 0.03),
    ("MP3", "MPEG_LAYER_III", 8000, 0.03),
    ("MP3", "MPEG_LAYER_III", 44100, 0.03),
]


@pytest.mark.parametrize(("kind", "subtype", "rate_hz", "tolerance"), CASES)
def test_every_format_decodes_to_the_same_tone_at_8_khz(encoded, kind, subtype, rate_hz, tolerance):
    waveform = decode(encoded(tone(rate_hz=rate_hz), rate_hz, kind, subtype), channel=0, **LENIENT)

    assert waveform.rate_hz == 8000
    assert waveform.samples.dtype == np.float32
    assert waveform.duration_s == pytest.approx(1.0, abs=0.01)
    assert level_at(waveform.samples, 440) == pytest.approx(0.5, abs=tolerance)


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"]
)
def test_wav_samples_equal_those_of_libsndfile(encoded, subtype):
    data = encoded(np.random.default_rng(1).uniform(-1, 1, (8000, 2)), 8000, "WAV", subtype)

    ours = decode(data, channel=1, **LENIENT).samples

    theirs = soundfile.read(io.BytesIO(data), dtype="float32")[0][:, 1]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_each_of_eight_channels_can_be_chosen(encoded, kind):
    data = encoded(np.stack([tone(amplitude=(c + 1) / 10) for c in range(8)], axis=1), kind=kind)

    levels = [level_at(decode(data, channel=c, **LENIENT).samples, 440) for c in range(8)]

    np.testing.assert_allclose(levels, np.arange(1, 9) / 10, atol=0.002)


def test_header_is_read_before_decoding(encoded):
    data = encoded(np.zeros((16000, 2), np.float32), 16000, "FLAC", "PCM_16")

    recording = Recording.open(data, channel=1, **LENIENT)

    facts = (recording.container, recording.encoding, recording.rate_hz, recording.channels)
    assert facts == ("FLAC", "FLAC", 16000, 2)
    assert recording.duration_s == 1.0


@pytest.mark.parametrize(("hz", "rate_hz"), [(4600, 16000), (7000, 16000), (6000, 44100), (20000, 48000)])
def test_frequencies_above_the_band_cause_no_aliasing(encoded, hz, rate_hz):
    data = encoded(tone(hz=hz, rate_hz=rate_hz), rate_hz, "WAV", "FLOAT")

    samples = decode(data, channel=0, **LENIENT).samples

    assert np.abs(samples[400:-400]).max() < 1e-4


def test_samples_past_full_scale_are_clipped(encoded):
    samples = decode(encoded(tone(amplitude=1.5), 8000, "WAV", "FLOAT"), channel=0, **LENIENT).samples

    assert samples.max() == 1.0
    assert samples.min() == -1.0


def test_an_id3_tag_before_an_mp3_is_skipped(encoded):
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x7f" + bytes(127)

    waveform = decode(tag + encoded(tone(), 8000, "MP3", "MPEG_LAYER_III"), channel=0, **LENIENT)

    assert waveform.duration_s == pytest.approx(1.0, abs=0.01)


# --- as Voice ID -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "WAV"},
        {"kind": "WAVEX"},
    ],
    ids=["plain", "WAVE_FORMAT_EXTENSIBLE"],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_strict_accepts_16_bit_pcm_at_8_khz_with_two_channels(encoded, given, channels):
    data = encoded(np.stack([tone()] * channels, axis=1), **given)

    assert decode(data, channel=channels - 1, **STRICT).duration_s == 1.0


def test_strict_accepts_extra_chunks_and_odd_padding(wav):
    odd = b"LIST" + struct.pack("<I", 5) + b"abcde\0"

    assert decode(wav(before=odd, after=odd), channel=0, **STRICT).duration_s == 0.1


@pytest.mark.parametrize(
    ("subtype", "rate_hz", "channels", "said"),
    [
        ("ULAW", 8000, 1, "encoding is mu-law"),
        ("ALAW", 8000, 1, "encoding is A-law"),
        ("PCM_24", 8000, 1, "encoding is PCM-24"),
        ("PCM_16", 16000, 1, "sample rate is 16000 Hz, must be 8000 Hz"),
        ("PCM_16", 8000, 3, "has 3 channels, must have at most 2"),
    ],
)
def test_strict_refuses_what_voice_id_refused(encoded, subtype, rate_hz, channels, said):
    data = encoded(np.zeros((rate_hz, channels), np.float32), rate_hz, "WAV", subtype)

    with pytest.raises(AudioError, match=said):
        decode(data, channel=0, **STRICT)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]
)
def test_strict_refuses_other_containers(encoded, kind, subtype):
    with pytest.raises(AudioError, match="not a WAV file"):
        decode(encoded(tone(), 8000, kind, subtype), channel=0, **STRICT)


# --- registry --------------------------------------------------------------------------------------------


def test_formats_have_unique_names_and_media_types():
    types = [media_type for one in FORMATS for media_type in one.media_types]

    assert len({one.name for one in FORMATS}) == len(FORMATS)
    assert len(set(types)) == len(types) == len(MEDIA_TYPES)
    assert [one.name for one in FORMATS if one.accepted_by_voice_id] == ["WAV"]


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
)
def test_only_the_right_format_recognizes_a_file(encoded, kind, subtype):
    data = encoded(tone(), 8000, kind, subtype)

    assert [one.name.upper() for one in FORMATS if one.recognizes(data)] == [kind]


# --- conversion ------------------------------------------------------------------------------------------


def test_every_16_bit_number_survives_both_conversions():
    numbers = np.arange(-32768, 32768).astype(np.int16)

    np.testing.assert_array_equal(int16_from_float(float_from_int16(numbers)), numbers)
    np.testing.assert_array_equal(
        float_from_pcm16(pcm16_from_float(float_from_int16(numbers))), numbers / 32768
    )


def test_samples_beyond_full_scale_are_clipped_to_16_bits():
    assert int16_from_float(np.array([1.0, 2.0, -1.0, -2.0], np.float32)).tolist() == [
        32767,
        32767,
        -32768,
        -32768,
    ]
