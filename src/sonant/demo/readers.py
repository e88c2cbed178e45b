"""Voices of many people for measurements: letters, syllables and words read for two games of KDE's.

    klettres-data      letters and syllables, one person a language (GPL-2+)
    ktuberling-data    names of things in pictures, one person a language (GPL-2+)

Fetched as Debian packages when needed, never shipped; the folder in the cache holds the copyright files. The
packages do not name all of the people, and some may have read for both games, so measurements do not
compare voices of one language. Each person's clips are joined into recordings at 8 kHz; they are single
words, so they serve to distinguish people and nothing else.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sonant.demo import debian
from sonant.errors import SetupError
from sonant.voice.audio.recording import RATE_HZ

#: By package: where its languages lie, one folder each.
PACKAGES = {"klettres-data": "usr/share/klettres", "ktuberling-data": "usr/share/ktuberling/sounds"}
MIN_S = 40.0
"""Languages with less are left out: some have a dozen words."""
_RECORDING_S = 20.0
_LEVEL = 0.5
_SUFFIXES = {".ogg", ".wav", ".opus"}
_STAMP = "readers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One person's recordings."""

    recordings: tuple[Path, ...]
    language: str
    """As the package names it, without the country."""


def fetch_readers(cache: Path, *, progress: Callable[[str], None]) -> dict[str, Reader]:
    """Fetch recordings by reader. The first call downloads 86 MB of packages, later ones only read `cache`.

    A package that this system's sources do not carry is left out. Raises SetupError without apt-get or
    dpkg-deb, without network, or when a download cannot be verified.
    """
    home = cache.absolute() / "readers"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with debian.locked(home / "lock", progress):
            found = _read_cache(home)
            return found or _fetch(home, progress)
    except OSError as fault:
        raise SetupError(f"the voices cannot be stored in {home}: {fault}") from None


def _read_cache(home: Path) -> dict[str, Reader]:
    """Read the cache; gives nothing if a file of it is missing."""
    try:
        stamp = json.loads((home / _STAMP).read_text("utf-8"))
        found = {
            name: Reader(recordings=tuple(home / name / clip for clip in clips), language=_language(name))
            for name, clips in stamp.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
    whole = all(clip.is_file() for reader in found.values() for clip in reader.recordings)
    return found if whole else {}


def _fetch(home: Path, progress: Callable[[str], None]) -> dict[str, Reader]:
    """Download the packages and write their readers' recordings into the cache. Raises SetupError."""
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=home) as name:
        work, stamp = Path(name), {}
        for package, file in debian.download(work, set(PACKAGES), progress).items():
            tree = work / "trees" / package
            tree.mkdir(parents=True)
            debian.unpack([file], tree)
            shutil.copy(tree / "usr/share/doc" / package / "copyright", home / f"{package}.copyright")
            for folder in sorted((tree / PACKAGES[package]).iterdir()):
                if not folder.is_dir():
                    continue
                reader = f"{package.removesuffix('-data')}-{folder.name}"
                clips = _install(folder, home / reader)
                if clips:
                    stamp[reader] = [clip.name for clip in clips]
            progress(f"{package}: {sum(one.startswith(package[:8]) for one in stamp)} people")
        new = home / f"{_STAMP}.new"
        new.write_text(json.dumps(stamp), "utf-8")
        new.replace(home / _STAMP)
    return _read_cache(home)


def _install(folder: Path, target: Path) -> list[Path]:
    """Join a language's clips into recordings in `target`; none if there are too few."""
    samples = list(_clips(folder))
    if sum(map(len, samples)) < MIN_S * RATE_HZ:
        return []
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    written: list[Path] = []
    parts: list[NDArray[np.float32]] = []
    for number, clip in enumerate(samples, 1):
        parts.append(clip)
        if number == len(samples) or sum(map(len, parts)) >= _RECORDING_S * RATE_HZ:
            written.append(target / f"{len(written):03d}.wav")
            soundfile.write(written[-1], np.concatenate(parts), RATE_HZ, subtype="PCM_16")
            parts = []
    return written


def _clips(folder: Path) -> Iterator[NDArray[np.float32]]:
    """Read clips as mono at 8 kHz, equally loud; silent and unreadable ones are skipped."""
    for file in sorted(folder.rglob("*")):
        if file.suffix not in _SUFFIXES or file.is_symlink():
            continue
        try:
            samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            continue
        mono = np.asarray(soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ), np.float32)
        peak = float(np.abs(mono).max(initial=0))
        if peak > 0:
            yield mono * np.float32(_LEVEL / peak)


def _language(name: str) -> str:
    """Give a reader's language without country and script."""
    return name.partition("-")[2].partition("_")[0].partition("@")[0]
