"""Simulated lines: their effect on spectra and levels, and repeatability."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sonant.errors import SetupError
from sonant.evaluation import channels, codecs
from sonant.evaluation.channels import PACKET, active_power, needs_others, parse
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.wav import open_wav

EVERY_INT16 = (np.arange(-32768, 32768) / 32768).astype(np.float32)
ALL = (
    "clean", "g711", "g711-a", "gsm", "narrow", "amr-band", "loss:10", "loss:10:zero", "white:10", "pink:10",
    "babble:10", "reverb:0.5", "reverb:0.4+pink:15+g711+loss:3",
)  # fmt: skip


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(8000 * seconds))).astype(np.float32)


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.25 * np.sin(2 * np.pi * hz * np.arange(int(8000 * seconds)) / 8000)).astype(np.float32)


def decibels(ratio: float) -> float:
    return 10 * float(np.log10(ratio))


def gain_db(channel: str, hz: float) -> float:
    """Of a tone, away from the ends."""
    before = tone(hz)
    after = parse(channel).apply(before, seed=[1])
    return decibels(np.mean(after[800:-800] ** 2) / np.mean(before[800:-800] ** 2))


# --- G.711 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "mu", "a"),
    [
        # From the tables of ITU-T G.711: silence, the smallest steps, full scale, either sign.
        (0, 0xFF, 0xD5),
        (-1, 0x7F, 0x55),
        (32767, 0x80, 0xAA),
        (-32768, 0x00, 0x2A),
    ],
)
def test_g711_codes_equal_the_standard(value, mu, a):
    sample = np.array([value / 32768], np.float32)

    assert codecs.mu_law_codes(sample)[0] == mu
    assert codecs.a_law_codes(sample)[0] == a


@pytest.mark.parametrize(("code", "subtype", "differ"), [("mu_law", "ULAW", 0), ("a_law", "ALAW", 127)])
def test_g711_agrees_with_libsndfile_for_every_sample_value(code, subtype, differ):
    file = io.BytesIO()
    soundfile.write(file, (EVERY_INT16 * 32768).astype(np.int16), 8000, format="WAV", subtype=subtype)
    file.seek(0)
    theirs, _ = soundfile.read(file, dtype="float32")

    ours = getattr(codecs, code)(EVERY_INT16)

    # A-law: a negative sample exactly on a decision value may fall on either side of it.
    unlike = EVERY_INT16[ours != theirs] * 32768
    assert len(unlike) == differ
    assert (unlike < 0).all() and (unlike % 16 == 0).all()


@pytest.mark.parametrize(("code", "subtype"), [("mu_law", "ULAW"), ("a_law", "ALAW")])
def test_g711_output_equals_a_decoded_recording(code, subtype):
    file = io.BytesIO()
    soundfile.write(file, getattr(codecs, code)(EVERY_INT16), 8000, format="WAV", subtype=subtype)
    source = open_wav(file.getvalue(), strict=False)

    (decoded,) = source.blocks(0, source.frames)

    np.testing.assert_array_equal(decoded, getattr(codecs, code)(EVERY_INT16))


@given(st.floats(-1, 1, width=32), st.sampled_from([codecs.mu_law, codecs.a_law]))
def test_companding_error_is_relative_to_the_sample(value, code):
    found = float(code(np.array([value], np.float32))[0])

    assert abs(found - value) <= max(abs(value) / 16, 8 / 32768) + 2**-15 or abs(value) > 0.98
    assert float(code(np.array([found], np.float32))[0]) == found  # once through is enough


# --- bands, GSM, loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "passed_hz", "stopped_hz"),
    [("narrow", (400, 1000, 3300), (100, 200, 3500, 3900)), ("amr-band", (120, 1000, 3600), (3800, 3950))],
)
def test_band_passes_its_frequencies_and_stops_others(channel, passed_hz, stopped_hz):
    for hz in passed_hz:
        assert gain_db(channel, hz) == pytest.approx(0, abs=0.1)
    for hz in stopped_hz:
        assert gain_db(channel, hz) < -50


def test_band_edge_has_half_amplitude():
    assert gain_db("narrow", 3400) == pytest.approx(-6, abs=0.3)


def test_gsm_keeps_the_level_and_changes_the_samples():
    assert gain_db("gsm", 500) == pytest.approx(0, abs=2)
    before = noise(1.0)
    assert not np.array_equal(parse("gsm").apply(before, seed=[1]), before)


@given(st.integers(0, 999))
def test_gsm_keeps_the_length_of_any_piece(length):
    assert len(codecs.gsm(noise(1.0)[:length])) == length


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_packet_loss_has_the_stated_rate_and_bursts_of_two(share):
    lost = np.array(channels.lost_packets(200_000, share, np.random.default_rng(1)))

    bursts = np.count_nonzero(np.diff(lost.astype(int)) == 1)
    assert lost.mean() == pytest.approx(share, rel=0.1)
    assert lost.sum() / bursts == pytest.approx(channels.MEAN_BURST_PACKETS, rel=0.1)


def test_lost_packet_is_concealed_by_repetition_or_silence():
    before = noise(10.0)
    lost = channels.lost_packets(500, 0.1, np.random.default_rng(4))
    first = next(number for number in range(1, 500) if lost[number] and not lost[number - 1])
    span, earlier = slice(first * PACKET, (first + 1) * PACKET), slice((first - 1) * PACKET, first * PACKET)

    repeated = channels.lose_packets(before, np.random.default_rng(4), percent=10)
    silent = channels.lose_packets(before, np.random.default_rng(4), percent=10, repeat=False)

    np.testing.assert_allclose(repeated[span], before[earlier] * np.float32(0.7), rtol=1e-6)
    assert not silent[span].any()
    np.testing.assert_array_equal(repeated[earlier], before[earlier])


# --- noise and rooms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
@pytest.mark.parametrize("snr_db", [0, 10, 25])
def test_noise_has_the_stated_level_below_active_speech(kind, snr_db):
    speech = np.concatenate([noise(2.0), np.zeros(16000, np.float32), noise(1.0, 5)])  # with a long pause

    after = parse(f"{kind}:{snr_db}").apply(
        speech, seed=[1], others=[noise(1.5, 8), np.float32(0.1) * noise(0.5, 9)]
    )

    assert decibels(0.01 / np.mean((after - speech) ** 2)) == pytest.approx(snr_db, abs=0.3)


def test_active_level_leaves_out_pauses():
    with_pause = np.concatenate([noise(1.0), np.zeros(24000, np.float32)])

    assert decibels(active_power(with_pause) / active_power(noise(1.0))) == pytest.approx(0, abs=0.2)


def test_pink_noise_falls_by_three_decibels_an_octave():
    added = parse("pink:0").apply(noise(30.0), seed=[1]) - noise(30.0)
    power = np.abs(np.fft.rfft(added)) ** 2
    hz = np.fft.rfftfreq(len(added), 1 / 8000)

    def level(centre: float) -> float:
        return decibels(power[(hz > centre * 0.9) & (hz < centre * 1.1)].mean())

    assert level(500) - level(1000) == pytest.approx(3, abs=0.5)
    assert level(1000) - level(2000) == pytest.approx(3, abs=0.5)


def test_babble_has_the_spectrum_of_the_other_speakers():
    other = tone(700, 0.7)

    added = parse("babble:0").apply(noise(2.0), seed=[1], others=[other]) - noise(2.0)

    spectrum = np.abs(np.fft.rfft(added)) ** 2
    near = np.abs(np.fft.rfftfreq(len(added), 1 / 8000) - 700) < 20
    assert spectrum[near].sum() > 0.9 * spectrum.sum()


@pytest.mark.parametrize("rt60_s", [0.2, 0.5, 1.2])
def test_room_response_falls_by_60_db_in_its_reverberation_time(rt60_s):
    response = channels.room_response(rt60_s, np.random.default_rng(1)).astype(np.float64)
    tail = response[80:]  # the direct sound apart
    left = np.cumsum((tail**2)[::-1])[::-1]  # Schroeder's backward integral
    curve = 10 * np.log10(left / left[0])
    five, twenty_five = np.searchsorted(-curve, 5), np.searchsorted(-curve, 25)

    assert 3 * (twenty_five - five) / 8000 == pytest.approx(rt60_s, rel=0.1)
    assert np.sum(response[1:] ** 2) == pytest.approx(response[0] ** 2, rel=1e-5)


def test_reverberation_keeps_the_level():
    before = np.concatenate([noise(1.0), np.zeros(8000, np.float32)])

    after = parse("reverb:0.6").apply(before, seed=[1])

    assert active_power(after) == pytest.approx(active_power(before), rel=1e-3)
    assert np.mean(after[8100:8800] ** 2) > 1e-4  # sound goes on after the speech has ended


# --- all of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_channel_keeps_the_length_and_is_repeatable(name):
    before, others = noise(1.3), [noise(0.4, 2)]
    once, again = (parse(name).apply(before, seed=[1, 2], others=others) for _ in range(2))

    assert once.dtype == np.float32 and once.shape == before.shape
    assert np.isfinite(once).all()
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("name", ["loss:10", "white:10", "pink:10", "babble:10", "reverb:0.5"])
def test_another_seed_gives_another_call(name):
    before, others = noise(1.3), [noise(0.4, 2)]
    one, two = (parse(name).apply(before, seed=[seed], others=others) for seed in (1, 2))

    assert not np.array_equal(one, two)


@pytest.mark.parametrize("name", ALL)
def test_silence_stays_finite(name):
    after = parse(name).apply(np.zeros(1000, np.float32), seed=[1], others=[np.zeros(10, np.float32)])

    assert np.isfinite(after).all() and np.abs(after).max() < 0.001


def test_stages_are_applied_in_their_order():
    before = noise(1.0)
    both = parse("narrow+g711").apply(before, seed=[1])

    np.testing.assert_array_equal(both, codecs.mu_law(channels.band(before, 300, 3400)))


@pytest.mark.parametrize(
    "text",
    ["", "g712", "loss", "loss:", "loss:fast", "loss:60", "white:nan", "reverb:0", "gsm:1", "clean:1",
     "g711++gsm", "loss:5:repeat", "white:10:zero"],
)  # fmt: skip
def test_unknown_channel_is_refused_with_the_possible_ones(text):
    with pytest.raises(SetupError, match="channel"):
        parse(text)


def level_db(samples):
    return 10 * np.log10(active_power(samples))


def noise_call(seconds=4):
    return (0.05 * np.random.default_rng(7).standard_normal(seconds * RATE_HZ)).astype(np.float32)


def test_offset_is_added_to_every_sample():
    call = noise_call()
    np.testing.assert_allclose(parse("offset:-0.1").apply(call, seed=[1]), call - 0.1, atol=1e-6)


@pytest.mark.parametrize("name", ["tone:50:10", "tone:1000:10", "hum:60:10", "hum:50:10"])
def test_steady_sound_has_the_stated_level_and_frequencies(name):
    kind, hz, below_db = name.split(":")
    call = noise_call()

    added = parse(name).apply(call, seed=[1]) - call

    assert 10 * np.log10(np.mean(added**2)) == pytest.approx(level_db(call) - float(below_db), abs=0.05)
    spectrum = np.abs(np.fft.rfft(added))
    peaks = np.flatnonzero(spectrum > 1e-2 * spectrum.max()) * RATE_HZ / len(added)
    expected = float(hz) * np.arange(1, (1 if kind == "tone" else int(1000 / float(hz))) + 1)
    np.testing.assert_allclose(peaks, expected, atol=0.5)


@pytest.mark.parametrize("level", [-60, -26, 0])
def test_level_is_that_of_active_speech(level):
    assert level_db(parse(f"level:{level}").apply(noise_call(), seed=[1])) == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("percent", [0.1, 5.0])
def test_clipping_cuts_the_stated_share_of_samples(percent):
    clipped = parse(f"clip:{percent}").apply(noise_call(), seed=[1])

    assert np.abs(clipped).max() == 1
    assert 100 * np.mean(np.abs(clipped) == 1) == pytest.approx(percent, rel=0.1)


@pytest.mark.parametrize("per_octave_db", [-6, 3])
def test_tilt_is_a_straight_line_over_octaves(per_octave_db):
    call = noise_call(20)

    tilted = parse(f"tilt:{per_octave_db}").apply(call, seed=[1])

    gain = np.abs(np.fft.rfft(tilted)) / np.abs(np.fft.rfft(call))
    hz = np.fft.rfftfreq(len(call), 1 / RATE_HZ)
    low, high = (20 * np.log10(gain[np.argmin(np.abs(hz - at))]) for at in (500, 2000))
    assert high - low == pytest.approx(2 * per_octave_db, abs=0.01)
    assert level_db(tilted) == pytest.approx(level_db(call), abs=0.1)


def test_clicks_come_at_the_stated_rate():
    call = noise_call(10)
    assert np.count_nonzero(parse("clicks:2").apply(call, seed=[1]) - call) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("factor", [0.5, 2.0, 1.378])
def test_speed_changes_length_and_pitch(factor):
    tone = np.sin(2 * np.pi * 500 * np.arange(4 * RATE_HZ) / RATE_HZ).astype(np.float32)

    played = parse(f"speed:{factor}").apply(tone, seed=[1])

    assert len(played) == pytest.approx(len(tone) / factor, abs=2)
    peak = np.argmax(np.abs(np.fft.rfft(played))) * RATE_HZ / len(played)
    assert peak == pytest.approx(500 * factor, abs=1)


def test_agent_is_one_other_person_at_the_stated_level():
    call, agent = noise_call(), np.sin(np.arange(2 * RATE_HZ, dtype=np.float32))

    added = parse("agent:20").apply(call, seed=[1], others=[agent, noise_call()]) - call

    assert level_db(added) == pytest.approx(level_db(call) - 20, abs=0.1)
    assert needs_others("g711+agent:20") and not needs_others("tone:100:10")


def test_pcm16_rounds_to_sixteen_bits_and_cuts_off():
    found = parse("pcm16").apply(np.array([2.0, 0.5 + 1e-6, -2.0], np.float32), seed=[1])
    assert found.tolist() == [32767 / 32768, 0.5, -1.0]


@pytest.mark.parametrize("text", ["tone:1000", "hum:5:10", "tone:a:10", "clip:60", "offset", "agent:20:3"])
def test_stage_with_wrong_numbers_is_refused(text):
    with pytest.raises(SetupError, match=r"takes|is not one of"):
        parse(text)
