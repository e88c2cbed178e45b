"""Recordings without a length, with a wrong one, or joined from several are read to their end or refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from media_files import encode, film_without_sound, flac_with_total, mp3_without_length, rf64

from sonant.errors import AudioError
from sonant.voice.audio.decoding import ffmpeg
from sonant.voice.audio.decoding.libsndfile import TOLERANCE_S
from sonant.voice.audio.recording import Recording, decode
from sonant.voice.audio.samples import int16_from_float
from sonant.voice.audio.test_signal import voice_like_signal

SECONDS = 20.0
SIGNAL = voice_like_signal(8000, SECONDS)
OTHER = voice_like_signal(8000, SECONDS, pitch_hz=210.0)
BOTH = np.concatenate([SIGNAL, OTHER])


def read(data, *, channel=0, max_duration_s=600.0):
    return decode(data, channel=channel, strict=False, max_duration_s=max_duration_s).samples


def refusal(data):
    with pytest.raises(AudioError) as caught:
        read(data)
    return str(caught.value)


def likeness(found, samples):
    """The correlation of two recordings at their best alignment within 0.3 s, of the common length."""
    count = min(len(found), len(samples))
    a, b = found[:count].astype(np.float64), samples[:count].astype(np.float64)
    size = 1 << (2 * count).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    near = np.concatenate([cross[:2400], cross[-2400:]])
    return near.max() / np.sqrt((a @ a) * (b @ b))


def assert_whole(found, samples):
    """Nothing is missing: the length is right to the delay of a codec, the sound is the same to the end."""
    assert abs(len(found) - len(samples)) < 0.2 * 8000
    for start in range(0, len(samples), 40_000):
        assert likeness(found[start : start + 40_000], samples[start : start + 40_000]) > 0.9


# --- MP3 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_length_is_read_to_its_end(rate_hz, mode):
    samples = voice_like_signal(rate_hz, SECONDS)
    data = mp3_without_length(samples, rate_hz, mode)

    recording = Recording.open(data, channel=0, strict=False, max_duration_s=600.0)
    found = np.concatenate(list(recording.blocks()))

    assert recording.duration_s is None
    assert_whole(found, SIGNAL)


def test_mp3_that_gets_quieter_is_read_to_its_end():
    """A low estimate: the first frames are the biggest."""
    samples = np.concatenate([SIGNAL, np.zeros(400_000, np.float32), SIGNAL])

    assert_whole(read(mp3_without_length(samples, 8000, "VARIABLE"))[-160_000:], SIGNAL)


def test_joined_mp3_is_read_to_its_end(encoded):
    parts = [encoded(one, 8000, "MP3", "MPEG_LAYER_III") for one in (SIGNAL, OTHER)]

    assert_whole(read(b"".join(parts)), BOTH)
    assert_whole(read((b"ID3\x04\0\0\0\0\0\x05" + bytes(5)).join([b"", *parts])), BOTH)


def test_joined_mp3_without_length_is_read_to_its_end():
    assert_whole(read(mp3_without_length(SIGNAL) + mp3_without_length(OTHER)), BOTH)


@pytest.mark.parametrize("tag", [b"TAG" + bytes(125), bytes(5000)], ids=["ID3v1", "zeros"])
def test_what_follows_an_mp3_is_no_damage(encoded, tag):
    assert_whole(read(encoded(SIGNAL, 8000, "MP3", "MPEG_LAYER_III") + tag), SIGNAL)


def test_mp3_with_a_too_small_length_is_read_to_its_end(encoded):
    data = encoded(SIGNAL, 8000, "MP3", "MPEG_LAYER_III")
    at = next(data.find(name) for name in (b"Xing", b"Info") if name in data)

    assert_whole(read(data[: at + 8] + struct.pack(">I", 30) + data[at + 12 :]), SIGNAL)


def test_mp3_with_a_hole_is_refused(encoded):
    data = mp3_without_length(SIGNAL)
    hole = len(data) // 4

    assert "are no audio" in refusal(data[:hole] + b"\xaa" * hole + data[2 * hole :])


# --- FLAC ------------------------------------------------------------------------------------------------


@pytest.fixture
def flac(encoded):
    return encoded(SIGNAL, 8000, "FLAC", "PCM_16")


@pytest.mark.parametrize("total", [0, 1, 80_000], ids=["open", "one sample", "half"])
def test_flac_with_an_open_or_too_small_total_is_read_to_its_end(flac, total):
    np.testing.assert_allclose(read(flac_with_total(flac, total)), SIGNAL, atol=1e-4)


def test_flac_with_a_too_large_total_is_refused(flac):
    said = refusal(flac_with_total(flac, 240_000))

    assert said == "truncated: header promises 30.0 s, there are 20.0 s"


def test_flac_behind_an_id3_tag_is_read(flac):
    np.testing.assert_allclose(read(b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + flac), SIGNAL, atol=1e-4)


def test_joined_flac_is_read_to_its_end(flac, encoded):
    other = encoded(OTHER, 8000, "FLAC", "PCM_16")

    np.testing.assert_allclose(read(flac + other), BOTH, atol=1e-4)


# --- Ogg -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_chained_ogg_is_read_to_its_end(encoded, subtype):
    parts = [encoded(one, 8000, "OGG", subtype) for one in (SIGNAL, OTHER)]

    assert_whole(read(b"".join(parts)), BOTH)


def test_chained_ogg_of_two_rates_is_refused(encoded):
    wide = encoded(voice_like_signal(16000, 2.0), 16000, "OGG", "VORBIS")

    assert "joined from recordings of different kinds" in refusal(
        encoded(SIGNAL, 8000, "OGG", "VORBIS") + wide
    )


# --- WAV -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFF9B, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFDB, 0x80000024]
)
def test_wav_whose_size_was_left_open_is_read_to_its_end(wav, size):
    pcm = int16_from_float(SIGNAL).tobytes()
    data = wav(pcm, data_size=size, riff_size=min(size + 36, 0xFFFFFFFF))

    np.testing.assert_allclose(read(data), SIGNAL, atol=1e-4)


def test_rf64_and_wave64_are_read(encoded):
    numbers = int16_from_float(SIGNAL)

    np.testing.assert_allclose(read(rf64(numbers)), SIGNAL, atol=1e-4)
    np.testing.assert_allclose(read(encoded(numbers, 8000, "W64", "PCM_16")), SIGNAL, atol=1e-4)


@pytest.mark.parametrize("kind", ["RF64", "W64"])
def test_truncated_rf64_and_wave64_are_refused(encoded, kind):
    numbers = int16_from_float(SIGNAL)
    data = rf64(numbers) if kind == "RF64" else encoded(numbers, 8000, "W64", "PCM_16")

    assert "truncated: header promises 320000 bytes of audio" in refusal(data[:-1000])


def test_wav_with_an_empty_first_data_chunk_is_read(wav):
    pcm = int16_from_float(SIGNAL).tobytes()
    data = wav(b"", after=b"data" + struct.pack("<I", len(pcm)) + pcm)

    np.testing.assert_allclose(read(data), SIGNAL, atol=1e-4)


def test_wav_with_two_data_chunks_is_read_to_its_end(wav):
    first, second = (int16_from_float(one).tobytes() for one in (SIGNAL, OTHER))
    data = wav(first, after=b"data" + struct.pack("<I", len(second)) + second)

    np.testing.assert_allclose(read(data), BOTH, atol=1e-4)


def test_joined_wav_is_read_to_its_end(wav):
    parts = [wav(int16_from_float(one).tobytes()) for one in (SIGNAL, OTHER)]

    np.testing.assert_allclose(read(b"".join(parts)), BOTH, atol=1e-4)


def test_joined_wav_of_two_formats_is_refused(wav):
    assert "joined from files of different formats" in refusal(wav() + wav(rate_hz=16000))


def test_wav_with_an_odd_chunk_without_pad_byte_is_read(wav):
    pcm = int16_from_float(SIGNAL).tobytes()

    np.testing.assert_allclose(
        read(wav(pcm, before=b"LIST" + struct.pack("<I", 5) + b"abcde")), SIGNAL, atol=1e-4
    )


@pytest.mark.parametrize(("bits", "width"), [(12, 2), (20, 3), (24, 4)])
def test_pcm_in_wider_containers_is_read(wav, bits, width):
    numbers = np.rint(SIGNAL * 2 ** (bits - 1)).astype(np.int64) << (8 * width - bits)
    raw = numbers.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()

    np.testing.assert_allclose(read(wav(raw, bits=bits, block_align=width)), SIGNAL, atol=2.0 ** (2 - bits))


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM"])
def test_wav_with_a_codec_is_read(encoded, subtype):
    assert_whole(read(encoded(SIGNAL, 8000, "WAV", subtype)), SIGNAL)


def test_mp3_in_wav_is_read(encoded, wav):
    assert_whole(read(wav(mp3_without_length(SIGNAL), tag=0x55, bits=0, block_align=1)), SIGNAL)


def test_truncated_wav_with_a_codec_is_refused(encoded):
    assert "truncated: header promises" in refusal(encoded(SIGNAL, 8000, "WAV", "GSM610")[:-500])


def test_wav_with_a_codec_that_nothing_decodes_is_named(wav):
    assert "DSP Group TrueSpeech (0x0022)" in refusal(wav(tag=0x22, bits=1, block_align=32))
    assert "RT24 (0x0052)" in refusal(wav(tag=0x52))


# --- AIFF, AU, CAF, raw GSM ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF"])
def test_other_containers_are_read_exactly_or_refused_as_truncated(encoded, kind):
    data = encoded(SIGNAL, 8000, kind, "PCM_16")

    np.testing.assert_allclose(read(data), SIGNAL, atol=1e-4)
    assert "truncated: header promises" in refusal(data[: len(data) // 2])


def test_raw_gsm_is_read():
    out = io.BytesIO()
    soundfile.write(out, SIGNAL, 8000, format="RAW", subtype="GSM610")

    assert_whole(read(out.getvalue()), SIGNAL)


# --- through FFmpeg --------------------------------------------------------------------------------------

MEDIA = [
    # container, codec, rate
    ("ipod", "aac", 16000),
    ("ipod", "alac", 8000),
    ("mp4", "aac", 44100),
    ("adts", "aac", 16000),
    ("webm", "libopus", 48000),
    ("matroska", "aac", 16000),
    ("asf", "wmav2", 44100),
    ("amr", "libopencore_amrnb", 8000),
    ("3gp", "libopencore_amrnb", 8000),
    ("ogg", "flac", 16000),
    ("wav", "g722", 16000),
    ("wav", "g726", 8000),
    ("mpegts", "aac", 16000),
    ("caf", "alac", 8000),
]


@pytest.mark.parametrize(("container", "codec", "rate_hz"), MEDIA, ids=lambda value: str(value))
def test_media_are_read_to_their_end(container, codec, rate_hz):
    data = encode(voice_like_signal(rate_hz, SECONDS), container, codec, rate_hz=rate_hz)

    found = read(data)

    assert len(found) / 8000 == pytest.approx(SECONDS, abs=0.3)
    assert likeness(found, SIGNAL) > 0.8


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [("ipod", "aac", {"movflags": "faststart"}), ("matroska", "aac", {}), ("asf", "wmav2", {})],
    ids=["M4A", "Matroska", "WMA"],
)
def test_media_that_end_short_are_refused(container, codec, options):
    data = encode(voice_like_signal(44100, SECONDS), container, codec, rate_hz=44100, options=options)

    said = refusal(data[: len(data) // 2])

    assert said.startswith("truncated: header promises 20.")


def test_mp4_without_its_index_is_refused():
    data = encode(voice_like_signal(44100, SECONDS), "ipod", "aac", rate_hz=44100)

    assert "header cannot be read" in refusal(data[: len(data) // 2])


def test_sound_of_a_film_is_read():
    assert_whole(read(encode(SIGNAL, "matroska", "pcm_s16le", video=True)), SIGNAL)


def test_film_without_sound_is_named():
    assert refusal(film_without_sound()) == "a file of MP4 with a video track only: holds no sound"


def test_channel_of_a_medium_is_chosen():
    data = encode(np.stack([SIGNAL, OTHER], axis=1), "ipod", "alac")

    np.testing.assert_allclose(read(data, channel=1), OTHER, atol=1e-4)


def test_without_the_extra_the_message_names_it(monkeypatch):
    data = encode(SIGNAL, "ipod", "aac")
    monkeypatch.setattr(ffmpeg, "installed", lambda: False)

    with pytest.raises(AudioError, match=r"M4A is not read without FFmpeg: .*'sonant\[media\]'"):
        ffmpeg.FfmpegReader(data, container="M4A", demuxer="mov", promises=True)


# --- what is no recording --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x1f\x8b\x08" + bytes(50), "a gzip file; unpack it"),
        (b"PK\x03\x04\x14\0\x01\0" + bytes(50), "an encrypted ZIP archive; decrypt it"),
        (b"PK\x03\x04\x14\0\0\0" + bytes(50), "a ZIP archive; unpack it"),
        (b'{"Records": []}', "JSON"),
        (b"<!DOCTYPE html><html><body>403</body></html>", "an HTML page; perhaps the error page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML; perhaps the error page"),
        (b"%PDF-1.7" + bytes(50), "a PDF document"),
        (b"Salted__" + bytes(range(200)), "encrypted by OpenSSL; decrypt it"),
        (bytes(4096), "nothing but zero bytes"),
        (b"ID3\x04\0\0\0\0\0\x05" + bytes(5), "an ID3 tag without a recording"),
        (b"NIST_1A\n   1024\n", "NIST SPHERE; convert it to WAV"),
        (np.random.default_rng(3).bytes(4000), "raw samples need a header"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_other_files_are_named_with_what_to_do(data, said):
    found = refusal(data)

    assert found.startswith("not a recording: ")
    assert said in found


def test_tolerance_is_longer_than_the_delay_of_encoders():
    assert TOLERANCE_S > 2304 / 8000
