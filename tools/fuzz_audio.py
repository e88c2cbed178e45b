"""Change recordings of every format at random, and check that each is read or refused within the limits.

    python tools/fuzz_audio.py --count 100000

Prints what became of the files, how many decoder processes were started, and the most memory that one took.
Exits with 1 if a file caused anything but samples or an AudioError. PyAV (`pip install av`) writes the
formats that libsndfile does not; `--seeds` adds the files of a folder.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from sonant.errors import AudioError
from sonant.voice.audio.decoding.process import POOL
from sonant.voice.audio.recording import Recording
from sonant.voice.audio.test_signal import voice_like_signal

SECONDS = 0.6
MAX_DURATION_S = 600.0
_LIBSNDFILE = (
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "ULAW"), ("WAV", "FLOAT"), ("WAV", "GSM610"),
    ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"),
    ("AIFF", "IMA_ADPCM"), ("AU", "ULAW"), ("AU", "G721_32"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"),
    ("VOC", "PCM_16"), ("RAW", "GSM610"),
)  # fmt: skip
_FFMPEG = (
    ("ipod", "aac", 16000), ("ipod", "alac", 8000), ("mp4", "aac", 44100),
    ("3gp", "libopencore_amrnb", 8000), ("amr", "libopencore_amrnb", 8000), ("adts", "aac", 16000), ("latm", "aac", 16000),
    ("webm", "libopus", 48000), ("matroska", "flac", 8000), ("asf", "wmav2", 44100), ("asf", "wmav1", 16000),
    ("ogg", "flac", 8000), ("wav", "g722", 16000), ("wav", "g726", 8000), ("wav", "libmp3lame", 8000),
    ("mpegts", "aac", 16000), ("mpeg", "mp2", 16000), ("flv", "libmp3lame", 44100),
    ("avi", "pcm_s16le", 8000),
    ("wv", "wavpack", 16000), ("tta", "tta", 16000), ("caf", "aac", 16000),
)  # fmt: skip
_SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def main() -> int:
    """Run the fuzz and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="changed files (default: 2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: 1)")
    parser.add_argument("--seeds", type=Path, help="folder of further files to change")
    parser.add_argument("--keep", type=Path, help="folder for files on which a decoder ended")
    given = parser.parse_args()
    seeds = [*_soundfile_seeds(), *_ffmpeg_seeds(), *_seeds_of(given.seeds)]
    rng, outcomes, peak_bytes = random.Random(given.seed), Counter[str](), 0
    began_s = slowest_s = 0.0
    for number in range(given.count):
        data = change(rng, rng.choice(seeds), seeds)
        began_s = time.perf_counter()
        outcome = read(data)
        slowest_s = max(slowest_s, time.perf_counter() - began_s)
        outcomes[outcome] += 1
        if given.keep and outcome not in ("read", "refused"):
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{number:06}-{re.sub('[^a-z]+', '-', outcome.lower())}").write_bytes(data)
        if number % 50 == 0:
            peak_bytes = max(peak_bytes, _peak_bytes())
    print(f"{given.count:,} files from {len(seeds)} recordings: " + _listed(outcomes))
    print(f"decoder processes started: {POOL.started}")
    print(
        f"most memory of a decoder: {peak_bytes / 2**20:.0f} MiB; longest time of a file: {slowest_s:.1f} s"
    )
    return 1 if any(name.startswith("BUG") for name in outcomes) else 0


def read(data: bytes) -> str:
    """Decode a file; say what became of it."""
    try:
        recording = Recording.open(data, channel=0, strict=False, max_duration_s=MAX_DURATION_S)
        for block in recording.blocks():
            if not np.isfinite(block).all():
                return "BUG: samples that are not finite"
    except AudioError as fault:
        found = re.search(r"the decoder fails \((.+)\)|takes more than", str(fault))
        return f"refused, {found.group(1) or 'too long'}" if found else "refused"
    except Exception as fault:  # noqa: BLE001 - what the fuzz looks for
        return f"BUG: {type(fault).__name__}: {fault}"
    return "read"


def change(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    """Change a recording in one to four ways."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(len(changed), 256))
        match rng.randrange(7):
            case 0:
                for _ in range(rng.randint(1, 20)):
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
            case 1:
                changed[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(_SIZES))
            case 2:
                del changed[max(1, at) :]
            case 3:
                changed[at:at] = rng.randbytes(rng.randint(1, 300))
            case 4:
                changed[at : at + rng.randint(1, 400)] = b""
            case 5:
                other = rng.choice(seeds)
                changed[at:] = other[rng.randrange(len(other)) :]
            case _:
                changed[at] ^= 1 << rng.randrange(8)
        if not changed:
            changed = bytearray(b"\0")
    return bytes(changed)


def _soundfile_seeds() -> Iterator[bytes]:
    samples = voice_like_signal(8000, SECONDS)
    for kind, subtype in _LIBSNDFILE:
        out = io.BytesIO()
        soundfile.write(out, samples, 8000, format=kind, subtype=subtype)
        yield out.getvalue()


def _ffmpeg_seeds() -> Iterator[bytes]:
    try:
        import av
    except ImportError:
        print("without PyAV: formats of FFmpeg are left out", file=sys.stderr)
        return
    for container, codec, rate_hz in _FFMPEG:
        samples = (voice_like_signal(rate_hz, SECONDS) * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        out = io.BytesIO()
        with av.open(out, "w", format=container) as file:
            stream = file.add_stream(codec, rate=rate_hz, layout="mono")  # type: ignore[call-overload]
            context = stream.codec_context
            resampler = av.AudioResampler(context.format, "mono", rate_hz, context.frame_size or 1024)
            for ready in (*resampler.resample(frame), *resampler.resample(None), None):
                file.mux(stream.encode(ready))
        yield out.getvalue()


def _seeds_of(folder: Path | None) -> Iterator[bytes]:
    if folder is not None:
        yield from (path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _peak_bytes() -> int:
    one = POOL.take()
    POOL.give_back(one)
    try:
        status = Path(f"/proc/{one.pid}/status").read_text("ascii")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 if found else 0


def _listed(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in outcomes.most_common())


if __name__ == "__main__":
    sys.exit(main())
