"""Real telephone speech for the demo and the tests, from Debian's packages or from a folder of recordings.

People recorded it for telephone systems, at 8 kHz. It is fetched when needed, never shipped; each voice's
folder in the cache holds the package's copyright file. One person a voice:

    english          asterisk-core-sounds-en-wav     Allison Smith, CC BY-SA 3.0
    french           asterisk-core-sounds-fr-wav     June Wallack, CC BY-SA 3.0
    italian          asterisk-core-sounds-it-wav     Carlo Flora, CC BY 3.0
    russian          asterisk-core-sounds-ru-wav     Maxim Topal, ivrvoice.ru, CC BY 3.0
    italian-menardi  asterisk-prompt-it-menardi-wav  Paola Dal Zot, www.voip.ammdomus.it, CC BY-SA 3.0
    spanish          asterisk-prompt-es-co           July E. Jiménez, Avatar Ltda., GPL-2; GSM 06.10
    french-armelle   asterisk-prompt-fr-armelle      Armelle Desjardins, BSD-like; GSM 06.10

`asterisk-core-sounds-es-wav` is left out: its folder and its copyright file name the English speaker, so it
is not another person.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import soundfile

from sonant.demo import debian
from sonant.demo.synthesizers import fetch_synthesizers
from sonant.errors import SetupError

MIN_SPEAKERS = 3
"""With fewer the demo shows nothing: a caller must be distinguished from at least two others."""
MIN_CLIP_S = 1.5
"""Shorter clips are beeps, tones and single words."""
MAX_CLIPS = 2000
"""Recordings read from one speaker's folder, at most."""

_SOUNDS = Path("usr/share/asterisk/sounds")
_WORDS = {"digits", "letters", "phonetic", "silence"}
"""Sub-folders that hold single words or nothing."""
_NOT_SPEECH = {"tt-monkeys"}
"""The same animal noises in every package, which would make all voices similar."""
_STAMP = "voices.json"
_ALTERNATIVE = (
    "Or bring your own recordings: --audio DIR, with one sub-folder for each of three or more speakers."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The place of one person's clips: a Debian package and a folder in it."""

    package: str
    folder: str
    """Below `usr/share/asterisk/sounds`."""


DEFAULT: Mapping[str, Voice] = {
    "english": Voice(package="asterisk-core-sounds-en-wav", folder="en_US_f_Allison"),
    "french": Voice(package="asterisk-core-sounds-fr-wav", folder="fr_CA_f_June"),
    "italian": Voice(package="asterisk-core-sounds-it-wav", folder="it_IT_m_Carlo"),
    "russian": Voice(package="asterisk-core-sounds-ru-wav", folder="ru_RU_f_IvrvoiceRU"),
    "italian-menardi": Voice(package="asterisk-prompt-it-menardi-wav", folder="it_IT_f_Menardi"),
    "spanish": Voice(package="asterisk-prompt-es-co", folder="es"),
    "french-armelle": Voice(package="asterisk-prompt-fr-armelle", folder="fr"),
}


def fetch_voices(
    cache: Path, *, voices: Mapping[str, Voice] = DEFAULT, progress: Callable[[str], None]
) -> dict[str, list[Path]]:
    """Fetch 8 kHz mono WAV clips of 1.5 s or more, by voice: one person each, no clip twice.

    The first call downloads about 95 MB of packages and 10 MB of package lists, later ones only read `cache`.
    Safe to call from several processes at once: one fetches, the others wait. A voice that this system's
    package sources do not carry is left out, with a line to `progress`.
    Raises SetupError without apt-get or dpkg-deb, without network, when a download cannot be verified, or
    when fewer than three voices (or fewer than `voices`, if that is less) are available.
    """
    cache = cache.absolute()
    known = _read_stamp(cache)
    if not voices.keys() <= known.keys():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with debian.locked(cache / "lock", progress):
                known = _read_stamp(cache)
                missing = {name: voice for name, voice in voices.items() if name not in known}
                if missing:
                    known |= _fetch(cache, missing, progress)
                    enough = len(_available(known, voices)) >= min(MIN_SPEAKERS, len(voices))
                    # With too few, absent voices are not recorded, so that better sources are tried again.
                    _write_stamp(cache, known if enough else _available(known, known))
        except OSError as fault:
            raise SetupError(f"the voices cannot be stored in {cache}: {fault}") from None
    found = _available(known, voices)
    if len(found) < min(MIN_SPEAKERS, len(voices)):
        raise SetupError(
            f"this system's package sources carry {len(found)} of the {len(voices)} voices. {_ALTERNATIVE}"
        )
    return found


def voices_from_folder(folder: Path) -> dict[str, list[Path]]:
    """List recordings by speaker, from one sub-folder a speaker; hidden and unreadable files are skipped.

    Any format that libsndfile reads, any depth, at least 8 kHz and 1.5 s. Raises SetupError when there is no
    such folder, a speaker has fewer than two recordings (one to enroll, one to compare), or there are fewer
    than three speakers.
    """
    if not folder.is_dir():
        raise SetupError(f"--audio {folder} is not a folder")
    try:
        found = {
            speaker.name: list(islice(filter(_is_speech, sorted(_files(speaker))), MAX_CLIPS))
            for speaker in sorted(folder.iterdir())
            if speaker.is_dir() and not speaker.name.startswith(".")
        }
    except OSError as fault:
        raise SetupError(f"--audio {folder} cannot be read: {fault}") from None
    if len(found) < MIN_SPEAKERS:
        raise SetupError(
            f"--audio {folder} has {len(found)} sub-folders, must have one for each of "
            f"{MIN_SPEAKERS} or more speakers"
        )
    for name, clips in found.items():
        if len(clips) < 2:
            raise SetupError(
                f"--audio: folder {name} has {len(clips)} usable recordings, must have 2 or more "
                f"(any format libsndfile reads, 8 kHz or more, {MIN_CLIP_S:g} s or longer)"
            )
    return found


# --- the cache ----------------------------------------------------------------------------------------


def _read_stamp(cache: Path) -> dict[str, list[Path]]:
    """Read which voices are complete in the cache; one without clips is not in the package sources."""
    try:
        stamp = json.loads((cache / _STAMP).read_text("utf-8"))
        known = {name: [cache / name / clip for clip in clips] for name, clips in stamp.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
    return {name: clips for name, clips in known.items() if all(clip.is_file() for clip in clips)}


def _available(known: Mapping[str, list[Path]], wanted: Iterable[str]) -> dict[str, list[Path]]:
    return {name: known[name] for name in wanted if known[name]}


def _write_stamp(cache: Path, known: Mapping[str, Sequence[Path]]) -> None:
    new = cache / f"{_STAMP}.new"
    new.write_text(
        json.dumps({name: [clip.name for clip in clips] for name, clips in known.items()}), "utf-8"
    )
    new.replace(cache / _STAMP)


def _fetch(
    cache: Path, voices: Mapping[str, Voice], progress: Callable[[str], None]
) -> dict[str, list[Path]]:
    for left in cache.glob("fetch-*"):  # of a killed process: we hold the lock, so no other uses them
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as name:
        work = Path(name)
        wanted = {voice.package for voice in voices.values()}
        packages = debian.download(work, wanted, progress, otherwise=_ALTERNATIVE)
        found: dict[str, list[Path]] = {}
        for voice, source in voices.items():
            if source.package not in packages:
                progress(f"{voice}: this system's package sources have no {source.package}")
                found[voice] = []
                continue
            found[voice] = _install(packages[source.package], source, cache / voice, work)
            seconds = sum(soundfile.info(clip).duration for clip in found[voice])
            progress(f"{voice}: {len(found[voice])} clips, {seconds / 60:.0f} min")
        return found


# --- packages -----------------------------------------------------------------------------------------


def _install(package: Path, source: Voice, home: Path, work: Path) -> list[Path]:
    """Unpack and put the voice's clips, and the package's copyright file, into folder `home`."""
    tree, chosen = work / "tree", work / "chosen"
    for folder in (tree, chosen, home):
        shutil.rmtree(folder, ignore_errors=True)
    chosen.mkdir()
    debian.unpack([package], tree)
    top, seen = tree / _SOUNDS / source.folder, set()
    for file in sorted(_files(top)):
        relative = file.relative_to(top)
        if (
            _WORDS & set(relative.parts[:-1])
            or file.stem in _NOT_SPEECH
            or file.suffix not in (".wav", ".gsm")
        ):
            continue
        digest = hashlib.sha256(file.read_bytes()).digest()
        if digest not in seen:  # some packages hold one recording under two names
            seen.add(digest)
            _add_clip(file, chosen / "-".join(relative.with_suffix(".wav").parts))
    shutil.copy(tree / "usr/share/doc" / source.package / "copyright", chosen / "copyright")
    chosen.replace(home)
    clips = sorted(home.glob("*.wav"))
    if not clips:
        raise SetupError(f"{source.package} has no usable clips in {source.folder}: it has changed")
    return clips


def _add_clip(file: Path, target: Path) -> None:
    """Write the clip to `target` as 8 kHz WAV, unless it is too short."""
    if file.suffix == ".gsm":
        samples, rate_hz = soundfile.read(
            file, format="RAW", subtype="GSM610", samplerate=8000, channels=1, dtype="int16"
        )
        if len(samples) >= MIN_CLIP_S * rate_hz:
            soundfile.write(target, samples, rate_hz, subtype="PCM_16")
        return
    facts = soundfile.info(file)
    if facts.samplerate == 8000 and facts.channels == 1 and facts.duration >= MIN_CLIP_S:
        file.replace(target)


def _files(folder: Path) -> Iterator[Path]:
    """List regular, visible files below `folder`; links are not followed, which would give clips twice."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(root, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield file


def _is_speech(file: Path) -> bool:
    try:
        facts = soundfile.info(file)
    except (soundfile.SoundFileError, OSError):
        return False
    return bool(facts.samplerate >= 8000 and facts.duration >= MIN_CLIP_S)


def main() -> None:
    """Fetch the tests' speech ahead of time: `python -m sonant.demo.speech FOLDER`.

    A fault is printed and is no error: tests that need the speech will say so.
    """
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(".cache/speech")

    def progress(text: str) -> None:
        print(text, file=sys.stderr)

    try:
        fetch_voices(folder.absolute(), progress=progress)
        fetch_synthesizers(folder.absolute().parent / "synthesizers", ["espeak-ng"], progress=progress)
    except SetupError as fault:
        print(f"no speech fetched: {fault}", file=sys.stderr)


if __name__ == "__main__":
    main()
