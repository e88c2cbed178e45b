"""Recordings as they come: what is accepted, what is refused with which figures, how much of it is read."""

import io
import struct

import numpy as np
import pytest
import soundfile
import soxr
from batch_values import entry
from media_files import encode

from sonant.settings import Audio

RATE_HZ = 8000


@pytest.fixture(scope="module")
def samples(calls):
    """The English call as float32 [n, 2], customer on channel 0."""
    return soundfile.read(io.BytesIO(calls["english.wav"]), dtype="float32")[0]


def encoded(samples, *, rate_hz=RATE_HZ, container="WAV", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def wav(payload, *, tag=1, channels=1, rate_hz=RATE_HZ, bits=16, size=None):
    """A WAV file with exactly these words in its header."""
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits)
    body = (
        b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size or len(payload)) + payload
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def told(testbed, name, data, channel=0, **how):
    """What becomes of one request for this recording, and that a message begins with the file's name."""
    uri = testbed.put(f"s3://calls/{name}", data)
    found = testbed.enroll_one((uri, channel), **how)
    if isinstance(found, str):
        return found
    code, message = found
    assert code == 400
    assert message.startswith(f"{uri}: "), message
    return message.removeprefix(f"{uri}: ")


@pytest.fixture(scope="module")
def strict(testbed):
    """The same testbed with Voice ID's own limits."""
    other = testbed.variant(audio=Audio(strict=True))
    yield other
    other.close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file is empty: 0 bytes"),
        (b"not a recording at all, only text", "not a recording: it is text; send the recording itself"),
        (b"RIFF\x24\0\0\0WAVE", "WAV file ends before its data chunk"),
        (
            wav(bytes(8000), tag=0x52),
            "WAV with RT24 (0x0052) is not supported: no library decodes it; send PCM",
        ),
        (wav(bytes(8000), rate_hz=6000), "sample rate is 6000 Hz, must be 8000 to 192000 Hz"),
        (wav(bytes(18_000), channels=9), "has 9 channels, must have at most 8"),
        (wav(b""), "holds no audio: 0 samples"),
        (wav(bytes(1000), size=64_000), "truncated: header declares 64000 bytes of audio, there are 1000"),
    ],
    ids=["empty", "text", "no data chunk", "RT24", "6 kHz", "9 channels", "no samples", "truncated"],
)
def test_a_recording_that_cannot_be_used_is_reported_with_its_figures(testbed, data, message):
    assert told(testbed, "faulty.wav", data) == message


def test_a_channel_that_is_not_there(testbed, samples):
    assert (
        told(testbed, "mono.wav", encoded(samples[:, 0]), channel=1)
        == "has 1 channel, channel 1 is not there"
    )


def test_a_recording_that_is_too_long(variant, calls):
    testbed = variant(audio=Audio(max_duration_s=5.0))
    message = told(testbed, "long.wav", calls["english.wav"])
    assert message.endswith("must be at most 5.0 s")
    assert float(message.split()[2]) > 5


def test_the_named_channel_is_the_one_that_is_used(testbed, samples, domain):
    """Two people on one line: each channel gives its own voice."""
    swapped = testbed.put("s3://calls/swapped.wav", encoded(samples[:, ::-1]))
    outcome = testbed.enroll(
        domain,
        [
            entry("r1", "as-recorded", ("s3://calls/english.wav", 0)),
            entry("r2", "swapped", (swapped, 1)),
        ],
        fraud={"FraudDetectionAction": "IGNORE"},  # the replay guard would know the words again
    )
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}
    found = testbed.voiceprints(domain)
    assert np.allclose(found["as-recorded"], found["swapped"], atol=1e-6)


# --- beyond Voice ID's own limits, unless strict

OTHERS = {
    "flac": ({"container": "FLAC"}, "not a WAV file: it is FLAC"),
    "ogg": ({"container": "OGG", "subtype": "VORBIS"}, "not a WAV file: it is Ogg"),
    "mu-law": ({"subtype": "ULAW"}, "encoding is mu-law, must be 16-bit PCM"),
    "a-law": ({"subtype": "ALAW"}, "encoding is A-law, must be 16-bit PCM"),
    "pcm-24": ({"subtype": "PCM_24"}, "encoding is PCM-24, must be 16-bit PCM"),
    "float": ({"subtype": "FLOAT"}, "encoding is float-32, must be 16-bit PCM"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_encodings_are_accepted_unless_strict(testbed, strict, samples, name):
    how, message = OTHERS[name]
    assert told(testbed, name, encoded(samples, **how)) == "NEW_ENROLLMENT"
    assert told(strict, name, encoded(samples, **how)) == message


def test_media_of_the_extra_are_accepted_unless_strict(testbed, strict, samples):
    data = encode(samples, "ipod", "aac")
    assert told(testbed, "call.m4a", data) == "NEW_ENROLLMENT"
    assert told(strict, "call.m4a", data) == "not a WAV file: it is MP4"


def test_other_rates_are_accepted_unless_strict(testbed, strict, samples):
    doubled = encoded(np.repeat(samples, 2, axis=0), rate_hz=16_000)
    assert told(testbed, "16k.wav", doubled) == "NEW_ENROLLMENT"
    assert told(strict, "16k.wav", doubled) == "sample rate is 16000 Hz, must be 8000 Hz"


def test_more_than_two_channels_are_accepted_unless_strict(testbed, strict, samples):
    three = encoded(np.column_stack([samples, samples[:, 1]]))
    assert told(testbed, "three.wav", three) == "NEW_ENROLLMENT"
    assert told(strict, "three.wav", three) == "has 3 channels, must have at most 2"


def test_strict_accepts_what_voice_id_did(strict, calls, samples):
    assert told(strict, "stereo.wav", calls["english.wav"]) == "NEW_ENROLLMENT"
    assert told(strict, "mono.wav", encoded(samples[:, 0])) == "NEW_ENROLLMENT"
    extensible = encoded(samples, container="WAVEX")
    assert told(strict, "extensible.wav", extensible) == "NEW_ENROLLMENT"


def test_strict_refuses_a_wav_header_that_declares_more_than_there_is(strict, calls):
    cut = calls["english.wav"][:-1000]
    size = len(calls["english.wav"])
    assert told(strict, "cut.wav", cut) == f"truncated: header declares {size} bytes, there are {size - 1000}"


# --- quality


def test_samples_at_16_khz_under_a_header_of_8_khz_are_refused(testbed, samples):
    slow = encoded(soxr.resample(samples[:, 0], RATE_HZ, 2 * RATE_HZ))
    code, message = testbed.enroll_one(testbed.put("s3://calls/slow.wav", slow))
    assert code == 400
    assert message.startswith("the audio cannot be scored: the speech plays too slowly for a person ")


def test_a_law_under_a_header_of_linear_bytes_is_refused(testbed, samples):
    law = io.BytesIO()
    soundfile.write(law, samples[:, 0], RATE_HZ, format="RAW", subtype="ALAW")
    uri = testbed.put("s3://calls/law.wav", wav(law.getvalue(), bits=8))
    code, message = testbed.enroll_one(uri)
    assert code == 400
    assert message.startswith(("the audio cannot be scored: ", "not enough speech: "))
    assert "quality.min_snr_db" in message or f"{uri} channel 0: " in message


def test_a_wrong_channel_is_reported_with_the_right_one(testbed, samples):
    silent = np.stack([np.zeros(len(samples), np.float32), samples[:, 0]], axis=1)
    uri = testbed.put("s3://calls/silent.wav", encoded(silent))
    code, message = testbed.enroll_one((uri, 0))
    assert code == 400
    assert f"; {uri} channel 0: 0.0 s of speech in " in message
    assert "dBFS (silence), but channel 1 holds " in message
    assert testbed.enroll_one((uri, 1)) == "NEW_ENROLLMENT"


# --- several files


def test_files_are_used_together_to_reach_the_speech_that_is_needed(testbed):
    short = "s3://calls/english-short.wav"
    code, message = testbed.enroll_one(short)
    assert (code, message.split(":")[0]) == (400, "not enough speech")
    others = [f"s3://calls/english-short-{number}.wav" for number in (2, 3)]
    assert testbed.enroll_one(short, *others) == "NEW_ENROLLMENT"


def test_one_file_several_times_is_no_more_speech(testbed):
    short = "s3://calls/english-short.wav"
    code, message = testbed.enroll_one(*[short] * 5)
    assert (code, message.split(":")[0]) == (400, "not enough speech")
    assert message.count(f"{short} channel 0: ") == 5
    assert "s more repeat other speech of the request and count once" in message


def test_one_bad_file_among_those_needed_fails_the_request_and_is_named(testbed, calls):
    bad = testbed.put("s3://calls/bad.wav", b"no recording")
    missing = "s3://calls/missing.wav"
    short = "s3://calls/english-short.wav"
    for broken, code in ((bad, 400), (missing, 404)):
        for files in ((broken, "s3://calls/english.wav"), (short, broken, "s3://calls/english.wav")):
            found = testbed.enroll_one(*files)
            assert found[0] == code
            assert found[1].startswith(f"{broken}: ")


def test_files_behind_the_one_that_suffices_are_not_opened(testbed, domain):
    garbage = testbed.put("s3://calls/garbage.wav", b"no recording")
    later = [garbage, "s3://calls/missing.wav", "s3://no-such-bucket/a.wav"]
    role = testbed.put_role(
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::calls/denied.wav"},
    )
    outcome = testbed.enroll(
        domain,
        [
            entry("r1", "customer-1", "s3://calls/english.wav", *later, "s3://calls/denied.wav"),
            entry(
                "r2",
                "customer-2",
                *(f"s3://calls/french-short{n}.wav" for n in ("", "-2", "-3", "-4")),
                *later,
            ),
        ],
        role=role,
    )
    assert outcome.successes == {"r1": "NEW_ENROLLMENT", "r2": "NEW_ENROLLMENT"}


def test_audio_is_kept_only_if_the_setting_says_so(variant):
    def kept(testbed):
        domain_id = testbed.new_domain()
        testbed.enroll(domain_id, [entry("r1", "customer-1", "s3://calls/english.wav")])
        return testbed.kept_audio(domain_id)

    assert kept(variant(audio=Audio(keep=False))) == {"customer-1": None}
    (audio,) = kept(variant(audio=Audio(keep=True))).values()
    speech, rate_hz = soundfile.read(io.BytesIO(audio))
    assert (len(speech), rate_hz) == (6 * RATE_HZ, RATE_HZ)
