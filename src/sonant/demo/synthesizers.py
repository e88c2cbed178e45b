"""Speech synthesizers from Debian's packages, unpacked and run without root, for spoofing attacks.

    espeak-ng           formant synthesis (GPL-3)
    espeak              its predecessor (GPL-3)
    flite-diphone       diphones: kal, kal16 (BSD-like)
    flite-clustergen    statistical parametric voices: awb, rms, slt (BSD-like)
    festival-diphone    diphones: American and Finnish voices (BSD-like, LGPL)
    festival-hts        hidden Markov models: slt (BSD-like)

The sentences are written here; nothing of the synthesizers is shipped.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sonant.demo import debian
from sonant.errors import SetupError
from sonant.voice.audio.recording import RATE_HZ

SPEAK_LIMIT_S = 60.0
_FESTIVAL = ("festival", "festlex-cmu", "festlex-poslex")
_STAMP = "packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesizer:
    """One kind of synthesis: its program, its packages, and the names of its voices."""

    program: str
    packages: tuple[str, ...]
    voices: tuple[str, ...]


SYNTHESIZERS: Mapping[str, Synthesizer] = {
    "espeak-ng": Synthesizer(
        program="espeak-ng",
        packages=("espeak-ng",),
        voices=("en-us", "en-gb+f3", "en+m7", "de+f2", "fr+m3", "it+f4", "en+klatt2", "es+f1"),
    ),
    "espeak": Synthesizer(
        program="espeak", packages=("espeak",), voices=("en", "en-us+f2", "de+m4", "it+f5")
    ),
    "flite-diphone": Synthesizer(program="flite", packages=("flite",), voices=("kal", "kal16")),
    "flite-clustergen": Synthesizer(program="flite", packages=("flite",), voices=("awb", "rms", "slt")),
    "festival-diphone": Synthesizer(
        program="festival",
        packages=(
            *_FESTIVAL,
            "festvox-kallpc16k",
            "festvox-kdlpc16k",
            "festvox-suopuhe-lj",
            "festvox-suopuhe-mv",
            "festvox-suopuhe-common",
        ),
        voices=("kal_diphone", "ked_diphone", "suo_fi_lj_diphone", "hy_fi_mv_diphone"),
    ),
    "festival-hts": Synthesizer(
        program="festival", packages=(*_FESTIVAL, "festvox-us-slt-hts"), voices=("cmu_us_slt_arctic_hts",)
    ),
}

_OPENINGS = (
    "Good morning, I am calling about my savings account",
    "Hello, this is about the letter that came on Tuesday",
    "Yes, I would like to change the address you have for me",
    "My daughter told me that the payment did not go through",
    "I have been waiting for the new card since the end of March",
    "There was a charge on my bill that I do not recognise",
    "We moved house last winter and the old number no longer works",
    "Could you tell me what the balance was before the weekend",
    "I want to close the second account and keep the first one open",
    "The technician said he would come between eight and noon",
    "My husband and I share the contract, but only I pay for it",
    "I lost my purse at the railway station yesterday evening",
)
_ENDINGS = (
    "and nobody has called me back so far.",
    "because the green one arrived broken and was sent away.",
    "so please look it up while I wait on the line.",
    "which is odd, as I paid forty seven pounds in cash.",
    "and the reference ends with nine, three, zero, six.",
    "although your colleague promised it would be done by Friday.",
    "unless you need my signature for that, of course.",
    "but the machine only kept asking me to press another key.",
    "and I am quite sure that my voice has not changed.",
    "since the children are at school until half past three.",
    "or should I rather visit the branch near the old bridge?",
)


def sentences(count: int, seed: int) -> list[str]:
    """Make sentences of a caller; equal seeds give equal sentences, neighbours differ."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(len(_OPENINGS) * len(_ENDINGS))
    chosen = [divmod(int(pairs[k % len(pairs)]), len(_ENDINGS)) for k in range(count)]
    return [f"{_OPENINGS[opening]}, {_ENDINGS[ending]}" for opening, ending in chosen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesizers:
    """Fetched synthesizers."""

    trees: Mapping[str, Path]
    """Unpacked programs and voices, with every library they need, by synthesizer."""
    missing: Mapping[str, str]
    """The reason why each of the others is not available."""


def fetch_synthesizers(cache: Path, names: Sequence[str], *, progress: Callable[[str], None]) -> Synthesizers:
    """Fetch programs and voices, which run without being installed.

    The first call downloads about 70 MB for all of them, later ones only read `cache`. Raises SetupError
    without apt-get or network, and when the cache cannot be written.
    """
    cache = cache.absolute()
    missing: Mapping[str, str] = {}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with debian.locked(cache / "lock", progress):
            absent = [name for name in names if not (cache / name / _STAMP).is_file()]
            if absent:
                with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as folder:
                    missing = _fetch(Path(folder), cache, absent, progress)
    except OSError as fault:
        raise SetupError(f"the synthesizers cannot be stored in {cache}: {fault}") from None
    return Synthesizers(trees={name: cache / name for name in names if name not in missing}, missing=missing)


def _fetch(
    work: Path, cache: Path, names: Sequence[str], progress: Callable[[str], None]
) -> Mapping[str, str]:
    """Fetch synthesizers into the cache; returns the reasons why others are not available."""
    found = debian.download_closures(work, {name: SYNTHESIZERS[name].packages for name in names}, progress)
    for name, why in found.missing.items():
        progress(f"{name}: {why}")
    for name, packages in found.files.items():
        tree = work / name
        debian.unpack(packages, tree)
        (tree / _STAMP).write_text("".join(f"{package.name}\n" for package in packages), "utf-8")
        shutil.rmtree(cache / name, ignore_errors=True)
        tree.replace(cache / name)
    return found.missing


def speak(name: str, tree: Path, voice: str, text: str) -> NDArray[np.float32]:
    """Speak a text: float32, shape [n], 8 kHz. Raises SetupError when the program fails."""
    if set(text) & set('"\\'):
        raise ValueError("the text must not hold quotes or backslashes")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speech.wav"
        done = debian.run(
            _command(SYNTHESIZERS[name].program, tree, voice, text, out),
            Path(folder),
            SPEAK_LIMIT_S,
            # Without libraries and settings of the caller's own system.
            environment={"HOME": folder, "TMPDIR": folder, "LD_LIBRARY_PATH": "", "LD_PRELOAD": ""},
        )
        if done.returncode != 0 or not out.is_file():
            raise SetupError(f"{name} cannot speak: {debian.failure_reason(done)}")
        samples, rate_hz = soundfile.read(out, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples[:, 0], rate_hz, RATE_HZ), np.float32)


def _command(program: str, tree: Path, voice: str, text: str, out: Path) -> list[str | Path]:
    start = debian.command(tree, f"usr/bin/{program}")
    if program == "flite":
        return [*start, "-voice", voice, "-t", text, "-o", out]
    if program == "festival":
        home = tree / "usr/share/festival"
        script = out.with_suffix(".scm")
        script.write_text(
            f'(voice_{voice})\n(utt.save.wave (utt.synth (Utterance Text "{text}")) "{out}" (quote riff))\n',
            "utf-8",
        )
        return [*start, "--datadir", home, "--libdir", home, "--batch", script]
    (data,) = list(tree.glob("usr/lib/*/espeak*-data"))
    return [*start, f"--path={data.parent}", "-v", voice, "-w", out, text]
