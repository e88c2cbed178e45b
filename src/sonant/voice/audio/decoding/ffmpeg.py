"""Read recordings through FFmpeg (PyAV, the extra `media`), packet by packet to the end of the file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError

TOLERANCE_S = 0.5
"""What may be missing of the promised length, or be damaged: delay and padding of encoders."""
EXTRA = "install the extra: pip install 'sonant[media]'"
_MAX_TRACKS = 8

#: Full scale of FFmpeg's sample formats (planar ones without their final p), and the value of silence.
_SCALES = {"u8": (2.0**-7, 128), "s16": (2.0**-15, 0), "s32": (2.0**-31, 0), "s64": (2.0**-63, 0)}
_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


@cache
def installed() -> bool:
    """Whether FFmpeg can be used; found once, because a decoder process may not search."""
    return find_spec("av") is not None


def preload() -> None:
    """Import all of PyAV and silence its libraries, before descriptors are forbidden."""
    if not installed():
        return
    av = _pyav()
    av.logging.set_level(av.logging.PANIC)
    frame = av.AudioFrame(format="s16", layout="mono", samples=1)
    frame.to_ndarray()
    try:
        av.open(io.BytesIO(b"\0" * 64), format="wav")
    except av.error.FFmpegError:
        return


@cache
def _pyav() -> Any:
    """Import PyAV, whose libraries take 60 MB of memory, when it is needed: not in every process."""
    import av

    return av


class FfmpegReader:
    """An open recording; read once, from the front. Its tracks' channels are counted one after another."""

    def __init__(self, data: bytes, *, container: str, demuxer: str, promises: bool) -> None:
        """Open bytes with one demuxer of FFmpeg. Raises AudioError.

        `promises` says whether the container states its length; otherwise FFmpeg's is an estimate.
        """
        if not installed():
            raise AudioError(f"{container} is not read without FFmpeg: {EXTRA}, or send WAV or FLAC")
        self._container, self._av = container, _pyav()
        av = self._av
        try:
            self._file = av.open(io.BytesIO(data), format=demuxer, metadata_errors="ignore")
        except (av.error.FFmpegError, ValueError) as fault:
            raise AudioError(f"{container} header cannot be read: {_reason(fault)}") from None
        self._tracks = self._sound_tracks()
        self.rate_hz: int = self._tracks[0].codec_context.sample_rate
        self.channels: int = sum(one.codec_context.channels for one in self._tracks)
        self.encoding = _encoding(self._tracks[0].codec_context)
        self.frames: int | None = self._promised_frames() if promises else None

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield one channel in blocks of at most `block_frames` samples.

        Raises AudioError if the recording is damaged or shorter than promised.
        """
        waiting: list[NDArray[np.float32]] = []
        count = 0
        for samples in self._samples(channel):
            waiting.append(samples)
            count += len(samples)
            if count >= block_frames:
                joined = np.concatenate(waiting)
                for start in range(0, count - block_frames + 1, block_frames):
                    yield joined[start : start + block_frames]
                rest = joined[count // block_frames * block_frames :]
                waiting, count = [rest], len(rest)
        if count:
            yield np.concatenate(waiting)

    def _samples(self, channel: int) -> Iterator[NDArray[np.float32]]:
        track, channel = self._track_of(channel)
        context = track.codec_context
        done, lost_s, end_s = 0, 0.0, 0.0
        for packet in self._packets(track):
            try:
                frames = context.decode(packet)
            except self._av.error.FFmpegError:
                lost_s += float((packet.duration or 0) * track.time_base)
                if lost_s > TOLERANCE_S:
                    raise AudioError(
                        f"damaged: {self._container} cannot be decoded near {done / self.rate_hz:.1f} s"
                    ) from None
                continue
            for frame in frames:
                if frame.sample_rate != self.rate_hz or len(frame.layout.channels) != context.channels:
                    raise AudioError(
                        f"changes to {frame.sample_rate} Hz, {len(frame.layout.channels)} channels near "
                        f"{done / self.rate_hz:.1f} s; send the parts one by one"
                    )
                samples = _one_channel(frame, channel)
                done += len(samples)
                end_s = done / self.rate_hz
                if frame.pts is not None and frame.time_base is not None:
                    begin = track.start_time or 0
                    end_s = max(end_s, float(frame.pts * frame.time_base - begin * track.time_base))
                yield samples
        if self.frames is not None and end_s < self.frames / self.rate_hz - TOLERANCE_S:
            raise AudioError(
                f"truncated: header promises {self.frames / self.rate_hz:.1f} s, "
                f"there are {done / self.rate_hz:.1f} s"
            )

    def _packets(self, track: Any) -> Iterator[Any]:
        """Yield the packets of a track, and at the end an empty one that drains its decoder."""
        packets = self._file.demux(track)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, self._av.error.EOFError):
                return
            except self._av.error.FFmpegError as fault:
                raise AudioError(f"damaged: {self._container} cannot be read: {_reason(fault)}") from None
            yield packet

    def _sound_tracks(self) -> list[Any]:
        tracks = list(self._file.streams.audio)
        if not tracks:
            kinds = sorted({one.type for one in self._file.streams if one.type})
            held = f"a {' and a '.join(kinds)} track" if kinds else "no track"
            raise AudioError(f"a file of {self._container} with {held} only: holds no sound")
        for one in tracks:
            if one.codec_context is None or not one.codec_context.sample_rate:
                raise AudioError(
                    f"the sound in this {self._container} file has a codec that is not supported"
                )
            one.codec_context.thread_count = 1
        rates = sorted({one.codec_context.sample_rate for one in tracks})
        if len(rates) > 1:
            raise AudioError(f"has tracks of {' and '.join(map(str, rates))} Hz: export one of them")
        return tracks[:_MAX_TRACKS]

    def _promised_frames(self) -> int | None:
        durations = [
            float(one.duration * one.time_base) for one in self._tracks if one.duration and one.duration > 0
        ]
        if not durations and self._file.duration and self._file.duration > 0:
            durations = [self._file.duration / self._av.time_base]
        return round(min(durations) * self.rate_hz) if durations else None

    def _track_of(self, channel: int) -> tuple[Any, int]:
        for one in self._tracks:
            if channel < one.codec_context.channels:
                return one, channel
            channel -= one.codec_context.channels
        raise AudioError(f"has {self.channels} channels")


def _one_channel(frame: Any, channel: int) -> NDArray[np.float32]:
    kind, planar = frame.format.name.removesuffix("p"), frame.format.is_planar
    channels = len(frame.layout.channels)
    plane = np.frombuffer(frame.planes[channel if planar else 0], _TYPES[kind])
    samples = plane[: frame.samples] if planar else plane[: frame.samples * channels][channel::channels]
    if kind not in _SCALES:
        with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite: refused later
            return samples.astype(np.float32)
    scale, silence = _SCALES[kind]
    return (samples.astype(np.float32) - np.float32(silence)) * np.float32(scale)


def _encoding(context: Any) -> str:
    name: str = context.codec.canonical_name
    if name in _ENCODINGS:
        return _ENCODINGS[name]
    return name.replace("_", " ").upper()


def _reason(fault: Exception) -> str:
    text = str(getattr(fault, "strerror", None) or fault or type(fault).__name__)
    return f"{text[:1].lower()}{text[1:80]}"


_ENCODINGS = {
    "amr_nb": "AMR-NB", "amr_wb": "AMR-WB", "wmav1": "WMA 1", "wmav2": "WMA 2", "wmapro": "WMA Pro",
    "wmavoice": "WMA Voice", "wmalossless": "WMA Lossless", "vorbis": "Vorbis", "opus": "Opus",
    "speex": "Speex", "adpcm_g722": "G.722", "adpcm_g726": "G.726", "adpcm_g726le": "G.726",
    "g729": "G.729", "g723_1": "G.723.1", "gsm": "GSM 6.10", "gsm_ms": "GSM 6.10", "ilbc": "iLBC",
    "pcm_u8": "PCM-8", "pcm_s8": "PCM-8", "pcm_s16le": "PCM-16", "pcm_s16be": "PCM-16",
    "pcm_s24le": "PCM-24", "pcm_s24be": "PCM-24", "pcm_s32le": "PCM-32", "pcm_s32be": "PCM-32",
    "pcm_f32le": "float-32", "pcm_f32be": "float-32", "pcm_f64le": "float-64", "pcm_f64be": "float-64",
    "pcm_mulaw": "mu-law", "pcm_alaw": "A-law", "adpcm_ima_wav": "IMA ADPCM", "adpcm_ima_qt": "IMA ADPCM",
    "adpcm_ms": "MS ADPCM", "truespeech": "TrueSpeech", "wavpack": "WavPack", "mp1": "MP1", "mp2": "MP2",
    "mp3": "MP3", "ape": "Monkey's Audio",
}  # fmt: skip
