"""Simulate telephone lines at 8 kHz: rooms, noise, faults of equipment, bands, codecs, lost packets.

A channel is written as stages joined by `+`, in their order: `reverb:0.5+pink:15+g711+loss:3` is a
hands-free caller in a noisy room on a line that loses packets. Equal input and seed give equal output.
Levels in dB count from active speech (`active_power`).

    clean                  unchanged
    g711, g711-a           G.711 mu-law, A-law
    gsm                    GSM 06.10 full rate
    narrow, amr-band       300-3400 Hz; 50-3700 Hz, the band (not the coding) of AMR
    loss:P[:zero]          P % of packets of 20 ms lost, in bursts; concealed by repetition, or by silence
    white:S, pink:S        noise S dB below active speech; pink falls by 3 dB an octave
    babble:S               other people talking, S dB below active speech
    agent:S                one other person, S dB below active speech, as an agent's voice that leaks in
    offset:V               V added to every sample; full scale is 1
    tone:F:S, hum:F:S      a tone of F Hz S dB below active speech; with its harmonics up to 1 kHz, whose
                           amplitudes fall with their number
    level:L, clip:P        active speech at L dB of full scale; so loud that P % of its samples are cut off
    tilt:D                 D dB an octave, around 1 kHz
    clicks:N               N single samples at half of full scale each second
    speed:F                F times as fast, as under a wrong sample rate; changes the number of samples
    pcm16                  16-bit samples, those beyond full scale cut off
    reverb:T               a room with a reverberation time (RT60) of T seconds, talker at critical distance
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.evaluation.codecs import Samples, a_law, gsm, mu_law
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.samples import float_from_int16, int16_from_float

CLEAN = "clean"
PACKET = RATE_HZ // 50
"""Samples per packet: 20 ms."""
MEAN_BURST_PACKETS = 2.0
"""Mean length of a burst of lost packets (Gilbert's model)."""

_ACTIVE_DEPTH_DB = 30.0  # frames further below the loud ones are pauses
_EDGE_HZ = 50.0  # half the width of a band filter's transitions
_CONCEAL_FADE = 0.7  # gain from one repeated packet to the next: -3 dB
_TAIL_STARTS_S = 0.0025
_PINK_FROM_HZ = 50.0
_TILT_FROM_HZ = 50.0
_HUM_TO_HZ = 1000.0
_CLICK = 0.5

Stage = Callable[[Samples, np.random.Generator, Sequence[Samples]], Samples]
"""Changes samples, given randomness and other people's speech; only `speed` changes their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A simulated line with its name."""

    name: str
    stages: tuple[Stage, ...]

    @property
    def babbles(self) -> bool:
        """Whether it needs other people's speech."""
        return needs_others(self.name)

    def apply(self, samples: Samples, *, seed: Sequence[int], others: Sequence[Samples] = ()) -> Samples:
        """Simulate the line; float32, [n] at 8 kHz. `others` is speech for babble and the agent's voice."""
        rng = np.random.default_rng(list(seed))
        for stage in self.stages:
            samples = np.asarray(stage(samples, rng, others), np.float32)
        return samples


def needs_others(name: str) -> bool:
    """Whether a channel of this name needs other people's speech."""
    return any(stage.split(":")[0].strip() in ("babble", "agent") for stage in name.split("+"))


def parse(text: str) -> Channel:
    """Parse a channel. Raises SetupError that lists the possible stages."""
    names = [part.strip() for part in text.split("+")]
    return Channel(
        name="+".join(names), stages=tuple(stage for name in names for stage in _stage(name, text))
    )


def _stage(name: str, text: str) -> list[Stage]:
    kind, *arguments = name.split(":")
    if kind == CLEAN and not arguments:
        return []
    if kind in _PLAIN and not arguments:
        return [_always(_PLAIN[kind])]
    if kind == "loss" and arguments[1:] == ["zero"]:
        (percent,) = _numbers(kind, arguments[:1], text)
        return [partial(lose_packets, percent=percent, repeat=False)]
    if kind in _NUMBERED and arguments:
        return [_NUMBERED[kind].make(*_numbers(kind, arguments, text))]
    known = [*_PLAIN, *(":".join([kind, *"NM"[: len(one.ranges)]]) for kind, one in _NUMBERED.items())]
    raise SetupError(f"channel {text!r}: {name!r} is not one of {CLEAN}, {', '.join(known)}")


def _numbers(kind: str, arguments: Sequence[str], text: str) -> list[float]:
    """Read a stage's numbers. Raises SetupError that states their ranges."""
    ranges = _NUMBERED[kind].ranges
    try:
        found = [float(argument) for argument in arguments]
    except ValueError:
        found = []
    if len(found) == len(ranges) and all(
        one.low <= value <= one.high for one, value in zip(ranges, found, strict=True)
    ):
        return found
    wanted = " and ".join(f"from {one.low:g} to {one.high:g} ({one.unit})" for one in ranges)
    numbers = "a number" if len(ranges) == 1 else f"{len(ranges)} numbers"
    raise SetupError(f"channel {text!r}: {kind} takes {numbers} {wanted}")


# --- stages -------------------------------------------------------------------------------------------


def band(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """Filter to the band from low_hz to high_hz, without delay.

    Flanks are half a cosine, 100 Hz wide, with half amplitude at the edge.
    """
    size = len(samples) + RATE_HZ // 10  # room for the filter's ringing, so that the end is not in the start
    hz = np.fft.rfftfreq(size, 1 / RATE_HZ)
    gain = _flank((hz - low_hz) / _EDGE_HZ) * _flank((high_hz - hz) / _EDGE_HZ)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)], np.float32)


def lose_packets(
    samples: Samples,
    rng: np.random.Generator,
    others: Sequence[Samples] = (),
    *,
    percent: float,
    repeat: bool = True,
) -> Samples:
    """Drop packets by Gilbert's model: a chain of two states, in the bad one every packet is lost.

    They are concealed by the last packet that arrived, 3 dB softer each time, or by silence.
    """
    out = samples.copy()
    last = np.zeros(PACKET, np.float32)
    for number, lost in enumerate(lost_packets(-(-len(samples) // PACKET), percent / 100, rng)):
        part = out[number * PACKET : (number + 1) * PACKET]
        if not lost:
            last[: len(part)] = part
            continue
        last *= np.float32(_CONCEAL_FADE if repeat else 0)
        part[:] = last[: len(part)]
    return out


def lost_packets(count: int, share: float, rng: np.random.Generator) -> list[bool]:
    """Draw the lost packets: `share` of them in the long run, in bursts of two on average."""
    leave = 1 / MEAN_BURST_PACKETS
    enter = share * leave / (1 - share)
    bad = bool(rng.random() < share)
    found = []
    for chance in rng.random(count).tolist():
        found.append(bad)
        bad = chance >= leave if bad else chance < enter
    return found


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Add noise at `snr_db` below active speech; both [n]. Silence on either side is unchanged."""
    return _scaled_onto(samples, noise, float(np.mean(np.square(noise, dtype=np.float64))), snr_db)


def active_power(samples: Samples) -> float:
    """Compute the mean square of the 20 ms frames within 30 dB of the loud ones, leaving out pauses."""
    frames = samples[: len(samples) // PACKET * PACKET].reshape(-1, PACKET).astype(np.float64)
    if len(frames) == 0:
        return 0.0
    power = np.mean(frames**2, axis=1)
    active = power >= np.percentile(power, 95) * 10 ** (-_ACTIVE_DEPTH_DB / 10)
    return float(power[active].mean())


def _white(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, snr_db: float
) -> Samples:
    return add_noise(samples, rng.standard_normal(len(samples)).astype(np.float32), snr_db)


def _pink(samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, snr_db: float) -> Samples:
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE_HZ), _PINK_FROM_HZ))
    return add_noise(samples, np.fft.irfft(spectrum, len(samples)).astype(np.float32), snr_db)


def _babble(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, snr_db: float
) -> Samples:
    """Add all the others at once, equally loud, each repeated from a random point."""
    crowd = np.zeros(len(samples), np.float32)
    for other in others:
        power = active_power(other)
        if power > 0:
            start = int(rng.integers(len(other)))
            crowd += np.resize(np.roll(other, -start), len(samples)) / np.float32(math.sqrt(power))
    return add_noise(samples, crowd, snr_db)


def _agent(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, below_db: float
) -> Samples:
    """Add another person's speech, repeated from a random point."""
    if not others:
        return samples
    other = others[0]
    leaked = np.resize(np.roll(other, -int(rng.integers(len(other)))), len(samples))
    return _scaled_onto(samples, leaked, active_power(leaked), below_db)


def _hum(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, hz: float, below_db: float
) -> Samples:
    harmonics = range(1, max(1, int(_HUM_TO_HZ / hz)) + 1)
    sound = sum(_sine(len(samples), hz * number, rng) / number for number in harmonics)
    return add_noise(samples, np.asarray(sound, np.float32), below_db)


def _tone(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, hz: float, below_db: float
) -> Samples:
    return add_noise(samples, _sine(len(samples), hz, rng), below_db)


def _sine(count: int, hz: float, rng: np.random.Generator) -> Samples:
    phase = rng.uniform(0, 2 * np.pi)
    return np.asarray(np.sin(2 * np.pi * hz / RATE_HZ * np.arange(count) + phase), np.float32)


def _clicks(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, per_s: float
) -> Samples:
    places = rng.integers(0, max(1, len(samples)), round(per_s * len(samples) / RATE_HZ))
    out = samples.copy()
    out[places] += np.float32(_CLICK)
    return out


def _offset(samples: Samples, *, value: float) -> Samples:
    return np.asarray(samples + np.float32(value), np.float32)


def _level(samples: Samples, *, level_db: float) -> Samples:
    power = active_power(samples)
    return samples * np.float32(10 ** (level_db / 20) / math.sqrt(power)) if power > 0 else samples


def _clip(samples: Samples, *, percent: float) -> Samples:
    """Amplify and cut off, so that this share of the active frames' samples is at full scale."""
    frames = samples[: len(samples) // PACKET * PACKET].reshape(-1, PACKET)
    power = np.mean(frames.astype(np.float64) ** 2, axis=1)
    if not len(frames) or power.max() <= 0:
        return samples
    active = frames[power >= np.percentile(power, 95) * 10 ** (-_ACTIVE_DEPTH_DB / 10)]
    limit = np.quantile(np.abs(active), 1 - percent / 100)
    return np.asarray(np.clip(samples / np.float32(max(limit, 1e-9)), -1, 1), np.float32)


def _tilt(samples: Samples, *, per_octave_db: float) -> Samples:
    """Filter with a straight line over the logarithm of the frequency; active speech keeps its level."""
    hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE_HZ), _TILT_FROM_HZ)
    gain = 10 ** (per_octave_db / 20 * np.log2(hz / 1000))
    tilted = np.fft.irfft(np.fft.rfft(samples) * gain, len(samples)).astype(np.float32)
    before, after = active_power(samples), active_power(tilted)
    return tilted * np.float32(math.sqrt(before / after)) if after > 0 else tilted


def _speed(samples: Samples, *, factor: float) -> Samples:
    return np.asarray(soxr.resample(samples, RATE_HZ * factor, RATE_HZ), np.float32)


def _pcm16(samples: Samples) -> Samples:
    return float_from_int16(int16_from_float(samples))


def _scaled_onto(samples: Samples, added: Samples, power: float, below_db: float) -> Samples:
    level = active_power(samples) * 10 ** (-below_db / 10)
    gain = math.sqrt(level / power) if power > 0 else 0.0
    return np.asarray(samples + np.float32(gain) * added, np.float32)


def _reverb(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, rt60_s: float
) -> Samples:
    """Convolve with `room_response`; active speech keeps its level."""
    size = len(samples) + int(rt60_s * RATE_HZ)
    response = room_response(rt60_s, rng)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    before, after = active_power(samples), active_power(wet.astype(np.float32))
    return np.asarray(wet * (math.sqrt(before / after) if after > 0 else 1.0), np.float32)


def room_response(rt60_s: float, rng: np.random.Generator) -> Samples:
    """Build a room response (Polack's model of late reverberation); [rt60_s * 8000].

    The direct sound, then noise that falls by 60 dB in `rt60_s` and has the same total power.
    """
    time_s = np.arange(int(rt60_s * RATE_HZ)) / RATE_HZ
    response = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    response[time_s < _TAIL_STARTS_S] = 0
    response /= np.sqrt(np.sum(response**2))
    response[0] = 1
    return response.astype(np.float32)


def _flank(place: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(0.5 + 0.5 * np.sin(np.pi / 2 * np.clip(place, -1, 1)), np.float64)


def _always(change: Callable[[Samples], Samples]) -> Stage:
    return lambda samples, _rng, _others: change(samples)


@dataclass(frozen=True, slots=True)
class _Range:
    """The values that a number of a stage can have."""

    low: float
    high: float
    unit: str


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A kind of stage with numbers."""

    make: Callable[..., Stage]
    """Builds the stage from its numbers."""
    ranges: tuple[_Range, ...]


_PLAIN: dict[str, Callable[[Samples], Samples]] = {
    "g711": mu_law,
    "g711-a": a_law,
    "gsm": gsm,
    "narrow": partial(band, low_hz=300.0, high_hz=3400.0),
    "amr-band": partial(band, low_hz=50.0, high_hz=3700.0),
    "pcm16": _pcm16,
}
_BELOW = _Range(-10.0, 60.0, "dB")
_HZ = _Range(10.0, 4000.0, "Hz")
_NUMBERED: dict[str, _Numbered] = {
    "loss": _Numbered(
        lambda value: partial(lose_packets, percent=value), (_Range(0.0, 50.0, "percent of packets"),)
    ),
    "white": _Numbered(lambda value: partial(_white, snr_db=value), (_BELOW,)),
    "pink": _Numbered(lambda value: partial(_pink, snr_db=value), (_BELOW,)),
    "babble": _Numbered(lambda value: partial(_babble, snr_db=value), (_BELOW,)),
    "agent": _Numbered(lambda value: partial(_agent, below_db=value), (_BELOW,)),
    "reverb": _Numbered(lambda value: partial(_reverb, rt60_s=value), (_Range(0.05, 5.0, "seconds"),)),
    "tone": _Numbered(lambda hz, value: partial(_tone, hz=hz, below_db=value), (_HZ, _BELOW)),
    "hum": _Numbered(lambda hz, value: partial(_hum, hz=hz, below_db=value), (_HZ, _BELOW)),
    "clicks": _Numbered(lambda value: partial(_clicks, per_s=value), (_Range(0.0, 100.0, "a second"),)),
    "offset": _Numbered(
        lambda value: _always(partial(_offset, value=value)), (_Range(-1.0, 1.0, "of full scale"),)
    ),
    "level": _Numbered(
        lambda value: _always(partial(_level, level_db=value)), (_Range(-90.0, 20.0, "dB of full scale"),)
    ),
    "clip": _Numbered(
        lambda value: _always(partial(_clip, percent=value)), (_Range(0.0, 50.0, "percent of samples"),)
    ),
    "tilt": _Numbered(
        lambda value: _always(partial(_tilt, per_octave_db=value)), (_Range(-12.0, 12.0, "dB an octave"),)
    ),
    "speed": _Numbered(lambda value: _always(partial(_speed, factor=value)), (_Range(0.1, 10.0, "times"),)),
}
