"""Call recordings: of real speech, equal for equal seeds, with the speech, length and noise asked for."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sonant.demo.recordings import (
    RATE_HZ,
    ManifestEntry,
    call_recording,
    net_speech_s,
    split_clips,
    write_manifest,
)
from sonant.errors import SetupError


def samples_of(call: bytes) -> np.ndarray:
    samples: np.ndarray
    samples, rate_hz = soundfile.read(io.BytesIO(call), dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    assert soundfile.info(io.BytesIO(call)).subtype == "PCM_16"
    return samples


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def clips(voices: dict[str, list[Path]]) -> list[Path]:
    return next(iter(voices.values()))


@pytest.fixture(scope="module")
def agent(voices: dict[str, list[Path]]) -> list[Path]:
    return list(voices.values())[1]


@given(count=st.integers(2, 60), seed=st.integers(0, 2**32))
def test_no_clip_is_in_both_halves_and_none_is_lost(count: int, seed: int) -> None:
    clips = [Path(f"{number}.wav") for number in range(count)]
    enrollment, fresh = split_clips(clips, rng(seed))
    assert sorted([*enrollment, *fresh]) == sorted(clips)
    assert 0 <= len(enrollment) - len(fresh) <= 1


def test_one_clip_cannot_be_split() -> None:
    with pytest.raises(SetupError, match="has 1 recordings, needs 2"):
        split_clips([Path("only.wav")], rng())


@pytest.mark.parametrize("wanted_s", [5, 35])
def test_customer_has_the_wanted_net_speech(clips: list[Path], wanted_s: float) -> None:
    for seed in range(3):
        call = samples_of(call_recording(clips, rng(seed), net_speech_s=wanted_s, channels=1, snr_db=80))
        assert net_speech_s(call[:, 0]) == pytest.approx(wanted_s, rel=0.1)


def test_equal_seeds_give_equal_bytes_and_others_do_not(clips: list[Path], agent: list[Path]) -> None:
    def made(seed: int) -> bytes:
        return call_recording(clips, rng(seed), net_speech_s=10, agent_clips=agent)

    assert made(7) == made(7)
    assert made(7) != made(8)


@pytest.mark.parametrize("customer", [0, 1])
def test_customer_and_agent_take_turns_on_their_own_channels(
    clips: list[Path], agent: list[Path], customer: int
) -> None:
    def made(agent_clips: list[Path]) -> np.ndarray:
        call = call_recording(
            clips, rng(), net_speech_s=20, customer_channel=customer, agent_clips=agent_clips, snr_db=80
        )
        return samples_of(call)

    call, alone = made(agent), made([])
    loud = np.abs(call) > 0.01
    assert np.array_equal(call[:, customer], alone[:, customer]), "the agent is not heard on their channel"
    assert loud[:, customer].any()
    assert loud[:, 1 - customer].any()
    assert not (loud[:, 0] & loud[:, 1]).any()
    assert not (np.abs(alone[:, 1 - customer]) > 0.01).any(), "without an agent: line noise only"


@pytest.mark.parametrize("duration_s", [13.0, 30.0])
def test_call_has_the_wanted_duration(clips: list[Path], duration_s: float) -> None:
    call = samples_of(
        call_recording(clips, rng(), net_speech_s=8, duration_s=duration_s, channels=1, snr_db=80)
    )
    assert len(call) == duration_s * RATE_HZ
    assert net_speech_s(call[:, 0]) == pytest.approx(8, rel=0.1)


def test_speech_that_does_not_fit_is_refused(clips: list[Path]) -> None:
    with pytest.raises(ValueError, match="20 s of speech do not fit into a call of 15 s"):
        call_recording(clips, rng(), net_speech_s=20, duration_s=15)


@pytest.mark.parametrize("snr_db", [10.0, 30.0])
def test_noise_has_the_wanted_distance_from_speech(clips: list[Path], snr_db: float) -> None:
    call = samples_of(call_recording(clips, rng(), net_speech_s=5, snr_db=snr_db))
    noise_dbfs = 20 * np.log10(np.std(call[:, 1]))
    assert noise_dbfs == pytest.approx(-26 - snr_db, abs=0.2)


def test_speech_has_the_telephone_level_and_does_not_clip(voices: dict[str, list[Path]]) -> None:
    for clips in voices.values():
        call = samples_of(call_recording(clips, rng(), net_speech_s=20, channels=1))[:, 0]
        frames = call[: len(call) // 160 * 160].reshape(-1, 160)
        power = np.mean(frames**2, axis=1)
        active = power[power > np.percentile(power, 95) / 1000]
        assert 10 * np.log10(active.mean()) == pytest.approx(-26, abs=4)
        assert np.abs(call).max() < 0.99


def test_a_call_without_speech_is_line_noise(clips: list[Path]) -> None:
    call = samples_of(call_recording(clips, rng(), net_speech_s=0, duration_s=5, channels=1))
    assert call.shape == (40000, 1)
    assert 20 * np.log10(np.std(call)) == pytest.approx(-56, abs=0.2)


def test_too_little_speech_error_has_figures(clips: list[Path]) -> None:
    with pytest.raises(SetupError, match=r"hold \d+ s of speech, a call needs 600 s"):
        call_recording(clips[:2], rng(), net_speech_s=600)


def test_other_rates_and_channels_are_converted(clips: list[Path], tmp_path: Path) -> None:
    samples, _ = soundfile.read(clips[0], dtype="float32")
    high = np.repeat(samples, 6)  # 48 kHz
    soundfile.write(tmp_path / "stereo.flac", np.stack([high, np.zeros_like(high)], axis=1), 48000)
    highpass_300hz, wide = (
        call_recording([clip], rng(), net_speech_s=1, duration_s=4, channels=1, snr_db=80)
        for clip in (clips[0], tmp_path / "stereo.flac")
    )
    assert len(wide) == len(highpass_300hz)
    assert net_speech_s(samples_of(wide)[:, 0]) == pytest.approx(
        net_speech_s(samples_of(highpass_300hz)[:, 0]), abs=0.2
    )


@pytest.mark.parametrize(("channels", "customer"), [(0, 0), (3, 0), (1, 1), (2, 2), (2, -1)])
def test_impossible_channels_are_refused(clips: list[Path], channels: int, customer: int) -> None:
    with pytest.raises(ValueError, match="channel"):
        call_recording(clips, rng(), net_speech_s=1, channels=channels, customer_channel=customer)


def test_enrollment_and_fresh_calls_of_the_fixture_differ_and_repeat(make_call, voices) -> None:
    voice = list(voices)[-1]
    assert make_call(voice, 3) != make_call(voice, 3, fresh=True)
    assert make_call(voice, 3) == make_call(voice, 3)


def test_manifest_has_voice_ids_form() -> None:
    entries = [
        ManifestEntry(
            request_id="r-1", speaker_id="ann", audio=[("s3://calls/a.wav", 0), ("s3://calls/b.wav", 1)]
        ),
        ManifestEntry(request_id="r-2", speaker_id="Zoë", audio=(("s3://calls/c.wav", 0),)),
    ]
    assert json.loads(write_manifest(entries)) == {
        "Version": "1.0",
        "SpeakerEnrollmentRequests": [
            {
                "RequestId": "r-1",
                "SpeakerId": "ann",
                "AudioSpecifications": [
                    {"S3Uri": "s3://calls/a.wav", "ChannelId": 0},
                    {"S3Uri": "s3://calls/b.wav", "ChannelId": 1},
                ],
            },
            {
                "RequestId": "r-2",
                "SpeakerId": "Zoë",
                "AudioSpecifications": [{"S3Uri": "s3://calls/c.wav", "ChannelId": 0}],
            },
        ],
    }
