#!/usr/bin/env python3
"""Compare what Sonant decodes of recordings with what FFmpeg decodes of them, sample by sample.

    pip install 'sonant[media]'
    python tools/compare_decoding.py FOLDER [FOLDER ...]

FFmpeg (PyAV) finds the container by itself and decodes the first sound track from its start to its end. The
first channel of both is compared at its best alignment:

    equal       the same samples
    close       40 dB or more below the recording's level, or within two steps of 16 bits: another decoder
    longer      close, but Sonant gives more: FFmpeg leaves out what an encoder or an edit list added
    shorter     close, but 0.1 s or more are missing
    unlike      everything else that both read
    refused     by Sonant, with the reason; beside it how much FFmpeg reads
    only here   FFmpeg reads nothing
    neither     refused, and FFmpeg reads nothing

Prints every file that is shorter, unlike or refused, and the counts. Exits with 1 if one is shorter, or if
Sonant fails in any other way than with an AudioError.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.recording import Recording

MAX_DURATION_S = 4 * 3600.0
CLOSE_DB = -40.0
STEPS = 2.0**-14
"""Two steps of 16 bits: FFmpeg decodes MPEG layers I and II with whole numbers."""
COMPARED_S, LEAST_SAMPLES = 20.0, 64
START_SAMPLES = 3456
"""Three frames of MPEG audio."""
MISSING_S = 0.1
EQUAL = 1e-6
TOLD = ("shorter", "unlike", "refused", "fault")

Array = NDArray[np.float32]
#: Full scale of FFmpeg's sample formats of whole numbers, and the value of silence.
SCALES = {"u8": (2.0**-7, 128), "s16": (2.0**-15, 0), "s32": (2.0**-31, 0), "s64": (2.0**-63, 0)}


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The first channel of a recording."""

    samples: Array
    rate_hz: int
    described: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What became of one file."""

    outcome: str
    details: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--all", action="store_true", help="print every file")
    options = parser.parse_args()
    av.logging.set_level(av.logging.PANIC)
    counts = Counter[str]()
    for file in files_of(options.folders):
        found = compare_file(file)
        counts[found.outcome] += 1
        if options.all or found.outcome in TOLD:
            print(f"{found.outcome:10}{file}: {found.details}", flush=True)
    print(
        f"{counts.total():,} files: " + ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    )
    return 1 if counts["shorter"] or counts["fault"] else 0


def files_of(folders: Sequence[Path]) -> Iterator[Path]:
    for one in folders:
        yield from sorted(path for path in one.rglob("*") if path.is_file()) if one.is_dir() else [one]


def compare_file(file: Path) -> Comparison:
    theirs = by_ffmpeg(file)
    try:
        ours = by_sonant(file.read_bytes())
    except AudioError as fault:
        outcome = "neither" if theirs is None else "refused"
        read = "" if theirs is None else f" (FFmpeg reads {theirs.seconds:.2f} s)"
        return Comparison(outcome=outcome, details=f"{fault}{read}")
    except Exception as fault:  # noqa: BLE001 - what is looked for
        return Comparison(outcome="fault", details=repr(fault))
    if theirs is None:
        return Comparison(outcome="only here", details=f"{ours.seconds:.2f} s of {ours.described}")
    return compare(ours, theirs)


def by_sonant(data: bytes) -> Decoded:
    recording = Recording.open(data, channel=0, strict=False, max_duration_s=MAX_DURATION_S)
    samples = np.concatenate([np.empty(0, np.float32), *recording.native_blocks()])
    return Decoded(
        samples=samples, rate_hz=recording.rate_hz, described=f"{recording.container}, {recording.encoding}"
    )


def by_ffmpeg(file: Path) -> Decoded | None:
    """Decode the first sound track; None if nothing can be."""
    parts: list[Array] = []
    rate_hz = 0
    try:
        with av.open(str(file), metadata_errors="ignore") as opened:
            for frame in decoded_frames(opened):
                rate_hz = rate_hz or frame.sample_rate
                if frame.sample_rate == rate_hz:
                    parts.append(first_channel(frame))
    except (av.error.FFmpegError, IndexError, ValueError, UnicodeError):
        if not parts:
            return None
    if not parts:
        return None
    return Decoded(samples=np.concatenate(parts), rate_hz=rate_hz, described="")


def decoded_frames(opened: Any) -> Iterator[Any]:
    """Yield the frames of the first sound track; a packet that cannot be decoded is left out."""
    for packet in opened.demux(opened.streams.audio[0]):
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue


def first_channel(frame: Any) -> Array:
    values = frame.to_ndarray()[0]
    samples = values if frame.format.is_planar else values[:: len(frame.layout.channels)]
    scale, silence = SCALES.get(frame.format.name.removesuffix("p"), (1.0, 0))
    return np.asarray((samples.astype(np.float64) - silence) * scale, np.float32)


def compare(ours: Decoded, theirs: Decoded) -> Comparison:
    """Compare at the best alignment."""
    one, two = ours.samples, theirs.samples
    if theirs.rate_hz != ours.rate_hz:  # Opus: FFmpeg gives 48 kHz, libopus the rate of the encoder's input
        two = np.asarray(soxr.resample(two, theirs.rate_hz, ours.rate_hz), np.float32)
    lengths = f"{ours.described}: {len(one) / ours.rate_hz:.3f} s, FFmpeg {len(two) / ours.rate_hz:.3f} s"
    if len(one) == len(two) and difference(one, two).max(initial=0.0) < EQUAL:
        return Comparison(outcome="equal", details=lengths)
    if min(len(one), len(two)) < LEAST_SAMPLES:
        return Comparison(
            outcome="close" if abs(len(one) - len(two)) < LEAST_SAMPLES else "unlike", details=lengths
        )
    lag, apart, level_db = min(
        (shifted(one, two, lag) for lag in {0, alignment(one, two, round(COMPARED_S * ours.rate_hz))}),
        key=lambda found: power_db(found[1]) - found[2],
    )
    error_db = power_db(apart) - level_db
    details = f"{lengths}, {lag} samples later, difference {error_db:.0f} dB, at most {apart.max():.1e}"
    if error_db > CLOSE_DB and apart.max() > STEPS:
        return Comparison(outcome="unlike", details=details)
    first, second = len(one) - max(lag, 0), len(two) + min(lag, 0)
    missing_s = (second - first) / ours.rate_hz
    outcome = "shorter" if missing_s >= MISSING_S else "longer" if missing_s <= -MISSING_S else "close"
    return Comparison(outcome=outcome, details=details)


def shifted(one: Array, two: Array, lag: int) -> tuple[int, Array, float]:
    """Return the lag, the differences at it, and the level, without the start: decoders have no past yet."""
    first, second = (one[lag:], two) if lag >= 0 else (one, two[-lag:])
    count = min(len(first), len(second))
    begin = START_SAMPLES if count > 2 * START_SAMPLES else 0
    return lag, difference(first[begin:count], second[begin:count]), power_db(second[begin:count])


def difference(one: Array, two: Array) -> Array:
    """Both are cut off at full scale, as Sonant does."""
    return np.abs(np.clip(one, -1, 1) - np.clip(two, -1, 1))


def alignment(one: Array, two: Array, most: int) -> int:
    """Find by how many samples the first is later than the second, by their correlation."""
    a, b = one[:most].astype(np.float64), two[:most].astype(np.float64)
    size = 1 << (len(a) + len(b)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    best = int(np.argmax(cross))
    return best - size if best > size // 2 else best


def power_db(samples: Array) -> float:
    return 10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


if __name__ == "__main__":
    sys.exit(main())
