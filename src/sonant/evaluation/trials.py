"""Read trial lists, folders of speakers and facts about speakers."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sonant.errors import SetupError

MAX_LIST_BYTES = 256 * 1024 * 1024
MAX_RECORDINGS = 2000
"""Recordings per speaker, at most."""
SPEAKERS_FILE = "speakers.csv"
SUFFIXES = frozenset(
    {
        *(".wav", ".w64", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".gsm"),
        *(".m4a", ".mp4", ".3gp", ".aac", ".amr", ".awb", ".webm", ".wma"),
    }
)

_LABELS = {"target": True, "nontarget": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One requested comparison."""

    reference: Path
    probe: Path
    genuine: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerInfo:
    """Facts about a speaker; empty where unknown."""

    gender: str = ""
    channel: str = ""


def read_trials(file: Path, root: Path | None = None) -> list[Trial]:
    """Read the trials of a text file: `enrol test target|nontarget`, or `1|0 enrol test` as VoxCeleb's.

    Fields are separated by spaces, or by tabs where paths hold spaces; empty lines and those that begin with
    `#` are ignored. Paths are relative to `root`, else to the file's folder. Raises SetupError that names
    the line.
    """
    folder = root or file.parent
    trials: list[Trial] = []
    for number, line in _lines(file):
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        if len(fields) == 3 and fields[2] in ("target", "nontarget"):
            reference, probe, label = fields
        elif len(fields) == 3 and fields[0] in ("1", "0"):
            label, reference, probe = fields
        else:
            raise SetupError(
                f"{file}, line {number}: must be `enrol test target|nontarget` or `1|0 enrol test`"
            )
        trials.append(Trial(reference=folder / reference, probe=folder / probe, genuine=_LABELS[label]))
    if not trials:
        raise SetupError(f"{file} holds no trials")
    return trials


def speakers_of(trials: list[Trial], root: Path) -> dict[Path, str]:
    """Infer the speaker of each recording, which a list does not state.

    If recordings lie in one folder per speaker (VoxCeleb's `id10270/...`), its name is the speaker, as long
    as no label contradicts it. Otherwise recordings linked by genuine trials belong to one speaker.
    """
    files = {file for trial in trials for file in (trial.reference, trial.probe)}
    by_folder = {file: _top(file, root) for file in files}
    if all(by_folder.values()) and all(
        (by_folder[trial.reference] == by_folder[trial.probe]) == trial.genuine for trial in trials
    ):
        return by_folder
    leader = {file: file for file in files}

    def find(file: Path) -> Path:
        while leader[file] != file:
            leader[file] = leader[leader[file]]
            file = leader[file]
        return file

    for trial in trials:
        if trial.genuine:
            leader[find(trial.reference)] = find(trial.probe)
    return {file: str(find(file)) for file in files}


def recordings_by_speaker(folder: Path) -> dict[str, list[Path]]:
    """List WAV, FLAC, Ogg and MP3 files by speaker: one sub-folder each, any depth, links not followed.

    Raises SetupError for fewer than two speakers, or when the folder cannot be read.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder} is not a folder")
    try:
        found = {
            speaker.name: sorted(_audio(speaker))[:MAX_RECORDINGS]
            for speaker in sorted(folder.iterdir())
            if speaker.is_dir() and not speaker.name.startswith(".")
        }
    except OSError as fault:
        raise SetupError(f"{folder} cannot be read: {fault.strerror}") from None
    found = {name: files for name, files in found.items() if files}
    if len(found) < 2:
        raise SetupError(
            f"{folder} has recordings in {len(found)} sub-folders, must have a sub-folder for each of two or "
            f"more speakers ({', '.join(sorted(SUFFIXES))})"
        )
    return found


def read_speaker_info(file: Path) -> dict[str, SpeakerInfo]:
    """Read gender and channel by speaker from a CSV file.

    Columns are speaker, gender, channel (the last two optional). Raises SetupError that names the line.
    """
    rows = list(csv.reader(line for _, line in _lines(file)))
    columns = [name.strip().lower() for name in rows[0]] if rows else []
    if "speaker" not in columns:
        raise SetupError(f"{file} must begin with the names of its columns: speaker, gender, channel")
    facts: dict[str, SpeakerInfo] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(columns):
            raise SetupError(f"{file}, row {number}: has {len(row)} fields, must have {len(columns)}")
        values: Mapping[str, str] = dict(zip(columns, (field.strip() for field in row), strict=True))
        facts[values["speaker"]] = SpeakerInfo(
            gender=values.get("gender", ""), channel=values.get("channel", "")
        )
    return facts


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        size = file.stat().st_size
        if size > MAX_LIST_BYTES:
            raise SetupError(f"{file} has {size:,} bytes, may have {MAX_LIST_BYTES:,}")
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise SetupError(f"{file} cannot be read: {fault}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _top(file: Path, root: Path) -> str:
    """Return the first folder from `root` to the file; empty if it lies in `root` itself."""
    parts = file.relative_to(root).parts if file.is_relative_to(root) else file.parts[-2:]
    return parts[0] if len(parts) > 1 else ""


def _audio(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(root, name)
            if file.suffix.lower() in SUFFIXES and not name.startswith(".") and not file.is_symlink():
                yield file
