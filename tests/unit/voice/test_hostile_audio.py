"""Damaged, wrong or far too large recordings: refused with a clear message at bounded cost."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.errors import AudioError
from sonant.voice.audio import recording as audio_recording
from sonant.voice.audio.recording import Recording, Waveform, decode

BOTH = pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])


def read(data, *, strict=False, channel=0, max_duration_s=60.0):
    return decode(data, channel=channel, strict=strict, max_duration_s=max_duration_s)


def refusal(data, **how):
    with pytest.raises(AudioError) as caught:
        read(data, **how)
    return str(caught.value)


@BOTH
def test_empty_file_is_refused(strict):
    assert refusal(b"", strict=strict) == "file is empty: 0 bytes"


@pytest.mark.parametrize(
    "data", [b"hello, this is a text", bytes(1000), b"\xff\xfe" * 500, b"RIFX" + bytes(99)]
)
def test_other_files_are_refused_as_no_recording(data):
    assert "not a recording" in refusal(data)


@BOTH
def test_wav_without_samples_is_refused(wav, strict):
    assert refusal(wav(b""), strict=strict) == "holds no audio: 0 samples"


@BOTH
@pytest.mark.parametrize("length_bytes", [1, 13, 30, 43, 45, 800])
def test_truncated_wav_is_refused_at_any_length(wav, strict, length_bytes):
    assert refusal(wav()[:length_bytes], strict=strict)


@BOTH
def test_truncated_wav_states_the_declared_size(wav, strict):
    assert "truncated: header declares" in refusal(wav()[:-2], strict=strict)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_open_wav_size_is_accepted_unless_strict(wav, size):
    data = wav(bytes(1600), data_size=size, riff_size=size)

    assert read(data).duration_s == 0.1
    assert refusal(data, strict=True)


@BOTH
@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"channels": 0}, "contradicts itself"),
        ({"block_align": 0}, "contradicts itself"),
        ({"block_align": 3}, "contradicts itself"),
        ({"rate_hz": 0}, "sample rate is 0 Hz"),
        ({"rate_hz": 1}, "sample rate is 1 Hz"),
        ({"rate_hz": 10_000_000}, "sample rate is 10000000 Hz"),
        ({"channels": 10}, "has 10 channels"),
        ({"bits": 12, "block_align": 1}, "12 bits"),
        ({"tag": 2}, "MS ADPCM (0x0002)"),
        ({"tag": 0xFFFE}, "EXTENSIBLE without a known sub-format"),
        ({"data_size": 10**9}, "truncated: header declares 1000000000 bytes of audio, there are 1600"),
    ],
    ids=str,
)
def test_wrong_wav_header_is_refused_with_its_value(wav, strict, header, said):
    assert said in refusal(wav(**header), strict=strict)


@BOTH
def test_wav_with_too_many_chunks_is_refused(wav, strict):
    data = wav(before=(b"junk" + bytes(4)) * 100_000)

    assert "more than 256 chunks" in refusal(data, strict=strict)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(encoded, value):
    samples = np.zeros(8000, np.float32)
    samples[4000] = value

    assert "not finite numbers" in refusal(encoded(samples, 8000, "WAV", "FLOAT"))


def test_float_samples_on_an_integer_scale_are_refused(encoded):
    assert "full scale is 1" in refusal(encoded(np.full(800, 20000.0), 8000, "WAV", "FLOAT"))


@pytest.mark.parametrize(("channels", "channel"), [(1, 1), (2, 2), (2, 100), (2, -1)])
@BOTH
def test_missing_channel_is_refused(wav, strict, channels, channel):
    said = refusal(wav(channels=channels), strict=strict, channel=channel)

    assert said == f"has {channels} channel{'s' * (channels > 1)}, channel {channel} is not there"


@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_compressed_recording_is_refused(encoded, kind, subtype, share):
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    data = encoded(noise, 8000, kind, subtype)

    said = refusal(data[: int(len(data) * share)])

    assert "truncated" in said or "header cannot be read" in said


def test_too_long_recording_is_refused_by_its_header(wav):
    assert refusal(wav(bytes(160_000)), max_duration_s=9.9) == "duration is 10.0 s, must be at most 9.9 s"


@pytest.mark.parametrize("length", ["stated", "not stated"])
def test_samples_of_all_channels_are_limited_together(encoded, monkeypatch, length):
    # Given: five seconds of eight channels
    monkeypatch.setattr(audio_recording, "MAX_SAMPLES", 200_000)
    data = bytearray(encoded(np.zeros((40_000, 8), np.float32), 8000, "FLAC"))
    if length == "not stated":
        data[21] &= 0xF0
        data[22:26] = bytes(4)

    # Then
    holds = "320,000 samples (8 channels of 8000 Hz)" if length == "stated" else "more than 200,000 samples"
    assert f"holds {holds}" in refusal(bytes(data))
    assert len(read(encoded(np.zeros((25_000, 8), np.float32), 8000, "FLAC")).samples) == 25_000


@pytest.mark.parametrize("length", ["stated", "not stated"])
def test_compressed_bomb_costs_at_most_the_longest_duration(length):
    # Given: four hours of silence in a few hundred kilobytes, whose header tells the length or does not
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 8000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(24):
            file.write(np.zeros(8000 * 600, np.int16))
    bomb = bytearray(out.getvalue())
    if length == "not stated":  # STREAMINFO: the low 36 bits before the checksum
        bomb[21] &= 0xF0
        bomb[22:26] = bytes(4)

    # When
    decoded, said = 0, ""
    tracemalloc.start()
    try:
        recording = Recording.open(bytes(bomb), channel=0, strict=False, max_duration_s=60.0)
        for block in recording.blocks():
            decoded += len(block)
    except AudioError as fault:
        said = str(fault)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # Then
    assert "60.0 s" in said
    assert peak_bytes < 5_000_000
    assert decoded == 0 if length == "stated" else 55 * 8000 < decoded <= 60 * 8000


def test_id3_tag_beyond_the_file_is_refused(encoded):
    data = encoded(np.zeros(8000), 8000, "MP3", "MPEG_LAYER_III")

    assert "not a recording" in refusal(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + data)


def test_wav_behind_an_id3_tag_is_refused(wav):
    assert "not a recording" in refusal(b"ID3\x04\x00\x00\x00\x00\x00\x00" + wav())


def test_blocks_before_damage_are_yielded(encoded):
    data = encoded(np.random.default_rng(0).normal(0, 0.1, 80_000), 8000, "FLAC", "PCM_16")
    blocks = Recording.open(data[: len(data) * 9 // 10], channel=0, strict=False, max_duration_s=60).blocks()

    assert len(next(blocks)) == 32768
    with pytest.raises(AudioError, match="damaged or truncated"):
        list(blocks)


# --- fuzz ------------------------------------------------------------------------------------------------

_FMT = struct.pack("<HHIIHH", 1, 2, 8000, 32000, 4, 16)
_SMALL_WAV = b"RIFF" + struct.pack("<I", 436) + b"WAVEfmt " + struct.pack("<I", 16) + _FMT
_SMALL_WAV += b"data" + struct.pack("<I", 400) + np.arange(200, dtype="<i2").tobytes()


@settings(max_examples=settings().max_examples * 10)
@given(st.dictionaries(st.integers(0, 60), st.integers(0, 255), min_size=1, max_size=6), st.booleans())
def test_wav_with_changed_bytes_is_read_or_refused(changes, strict):
    data = bytearray(_SMALL_WAV)
    for position, value in changes.items():
        data[position] = value

    try:
        waveform = read(bytes(data), strict=strict)
    except AudioError as fault:
        assert str(fault)
    else:
        assert isinstance(waveform, Waveform)
        assert 0 < len(waveform.samples) <= 800
        assert np.isfinite(waveform.samples).all()


@settings(max_examples=settings().max_examples * 5)
@given(
    st.binary(max_size=300), st.sampled_from([b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"ID3", b"\xff\xfb\x90"])
)
def test_any_bytes_after_a_signature_are_read_or_refused(rest, beginning):
    try:
        assert len(read(beginning + rest).samples) > 0
    except AudioError as fault:
        assert str(fault)
