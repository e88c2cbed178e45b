"""Getting real speech: from the real package sources, and offline from small sources made here."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from debian_source import needs_apt

from sonant.demo.speech import DEFAULT, fetch_voices, voices_from_folder
from sonant.errors import SetupError

THREE = {name: DEFAULT[name] for name in ("english", "russian", "spanish")}


def burst(seed: int, duration_s: float, rate_hz: int = 8000) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(int(duration_s * rate_hz)) * 3000).astype(np.int16)


def write(path: Path, samples: np.ndarray, rate_hz: int = 8000, **form: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, **form)


def build_package(sources: Path, name: str, folder: str, seed: int) -> None:
    """A small package laid out like the real ones, with an index entry in the sources."""
    tree = sources / "trees" / name
    sounds = tree / "usr/share/asterisk/sounds" / folder
    if name == DEFAULT["spanish"].package:
        for clip in ("hello", "goodbye"):
            seed += 1
            write(sounds / f"{clip}.gsm", burst(seed, 2), format="RAW", subtype="GSM610")
    else:
        write(sounds / "hello.wav", burst(seed, 2))
        write(sounds / "dictate/again.wav", burst(seed, 2))
        write(sounds / "dictate/pause.wav", burst(seed + 1, 3))
        write(sounds / "beep.wav", burst(seed, 0.4))
        write(sounds / "tt-monkeys.wav", burst(1, 3))
        write(sounds / "silence/3.wav", np.zeros(24000, np.int16))
        write(sounds / "digits/1.wav", burst(seed + 2, 2))
        (sounds / "linked.wav").symlink_to("dictate/pause.wav")
    (tree / "DEBIAN").mkdir()
    control = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    notes = tree / "usr/share/doc" / name
    notes.mkdir(parents=True)
    (notes / "copyright").write_text("mine")
    package = sources / f"{name}_1.0_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, package], check=True, capture_output=True
    )
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    with (sources / "Packages").open("a") as index:
        index.write(
            f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n\n"
        )


@pytest.fixture
def use_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes apt see one package source, as a system set up so would."""

    def use(line: str) -> None:
        (tmp_path / "sources.list").write_text(line + "\n")
        conf = f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
        (tmp_path / "system.conf").write_text(conf)
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "system.conf"))

    return use


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    for number, voice in enumerate(THREE.values()):
        build_package(folder, voice.package, voice.folder, 100 * (number + 1))
    return folder


# --- the real voices ----------------------------------------------------------------------------------


def test_real_clips_are_8_khz_mono_and_distinct(
    voices: dict[str, list[Path]],
) -> None:
    assert len(voices) >= 3
    owners: dict[bytes, str] = {}
    for voice, clips in voices.items():
        total_s = 0.0
        for clip in clips:
            facts = soundfile.info(clip)
            assert (facts.samplerate, facts.channels, facts.subtype) == (8000, 1, "PCM_16")
            assert facts.duration >= 1.5
            assert clip.stem != "tt-monkeys"
            total_s += facts.duration
            digest = hashlib.sha256(clip.read_bytes()).digest()
            assert digest not in owners, f"{clip} is also a clip of {owners[digest]}"
            owners[digest] = voice
        assert total_s > 300, f"{voice} has too little for enrollment and fresh calls"
        assert (clips[0].parent / "copyright").stat().st_size > 0


def test_second_call_runs_no_tool(
    voices: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = next(iter(voices.values()))[0].parents[1]
    said: list[str] = []
    assert fetch_voices(cache, progress=said.append) == voices
    assert said == []


# --- fetching, offline --------------------------------------------------------------------------------


@needs_apt
def test_only_distinct_speech_clips_are_kept_and_gsm_becomes_wav(
    sources: Path, use_source: Callable[[str], None], tmp_path: Path
) -> None:
    use_source(f"deb [trusted=yes] copy:{sources} ./")
    said: list[str] = []
    found = fetch_voices(tmp_path / "cache", progress=said.append)
    assert {voice: [clip.name for clip in clips] for voice, clips in found.items()} == {
        "english": ["dictate-again.wav", "dictate-pause.wav"],
        "russian": ["dictate-again.wav", "dictate-pause.wav"],
        "spanish": ["goodbye.wav", "hello.wav"],
    }
    assert soundfile.info(found["spanish"][0]).subtype == "PCM_16"
    assert [line for line in said if line.startswith("italian:")] == [
        "italian: this system's package sources have no asterisk-core-sounds-it-wav"
    ]


@needs_apt
def test_unsigned_source_is_not_used(
    sources: Path, use_source: Callable[[str], None], tmp_path: Path
) -> None:
    use_source(f"deb copy:{sources} ./")  # the source of the test before, but nobody vouches for it
    with pytest.raises(SetupError, match="none of the packages"):
        fetch_voices(tmp_path / "cache", voices=THREE, progress=lambda _: None)
    assert not list((tmp_path / "cache").rglob("*.wav"))


@needs_apt
def test_a_package_that_differs_from_its_index_is_refused(
    sources: Path, use_source: Callable[[str], None], tmp_path: Path
) -> None:
    use_source(f"deb [trusted=yes] copy:{sources} ./")
    package = sources / f"{THREE['english'].package}_1.0_all.deb"
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    package.write_bytes(content)
    with pytest.raises(SetupError, match="cannot be downloaded"):
        fetch_voices(tmp_path / "cache", voices=THREE, progress=lambda _: None)
    assert not list((tmp_path / "cache").rglob("*.wav"))


@needs_apt
def test_two_processes_at_once_fetch_once(
    sources: Path, use_source: Callable[[str], None], tmp_path: Path
) -> None:
    use_source(f"deb [trusted=yes] copy:{sources} ./")
    (tmp_path / "cache/fetch-left-by-a-killed-process").mkdir(parents=True)
    script = (
        "import sys; from pathlib import Path; from sonant.demo.speech import fetch_voices;"
        "said = []; found = fetch_voices(Path(sys.argv[1]), progress=said.append);"
        "print(sum('downloading' in line for line in said), sorted(found))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = sorted(process.communicate()[0].strip() for process in both)
    assert answers == [f"{times} ['english', 'russian', 'spanish']" for times in (0, 1)]
    assert not list((tmp_path / "cache").glob("fetch-*"))


@needs_apt
def test_cache_without_a_clip_is_repaired(
    sources: Path, use_source: Callable[[str], None], tmp_path: Path
) -> None:
    use_source(f"deb [trusted=yes] copy:{sources} ./")
    first = fetch_voices(tmp_path / "cache", voices=THREE, progress=lambda _: None)
    first["russian"][0].unlink()
    assert fetch_voices(tmp_path / "cache", voices=THREE, progress=lambda _: None) == first
    assert first["russian"][0].is_file()


@needs_apt
def test_absent_voices_are_looked_for_again(
    sources: Path, use_source: Callable[[str], None], tmp_path: Path
) -> None:
    use_source(f"deb [trusted=yes] copy:{sources} ./")
    index = sources / "Packages"
    whole = index.read_text()
    index.write_text(whole.split("\n\n")[0] + "\n\n")
    with pytest.raises(SetupError, match="carry 1 of the 3 voices"):
        fetch_voices(tmp_path / "cache", voices=THREE, progress=lambda _: None)
    index.write_text(whole)
    assert len(fetch_voices(tmp_path / "cache", voices=THREE, progress=lambda _: None)) == 3


@needs_apt
def test_missing_network_error_names_an_alternative(
    use_source: Callable[[str], None], tmp_path: Path
) -> None:
    use_source("deb http://ann:secret@127.0.0.1:9/debian stable main")
    with pytest.raises(SetupError, match=r"Failed to fetch .*127\.0\.0\.1.*--audio DIR") as fault:
        fetch_voices(tmp_path / "cache", progress=lambda _: None)
    assert "secret" not in str(fault.value)


def test_missing_apt_error_names_an_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"no apt-get and no apt-cache and no dpkg-deb.*--audio DIR"):
        fetch_voices(tmp_path / "cache", progress=lambda _: None)


@pytest.mark.parametrize("stamp", ["", "[1, 2]", '{"english": 3}', json.dumps({"english": ["gone.wav"]})])
def test_wrong_stamp_is_ignored(stamp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "voices.json").write_text(stamp)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="no apt-get"):
        fetch_voices(tmp_path, voices={"english": DEFAULT["english"]}, progress=lambda _: None)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"cannot be stored in .*file/cache"):
        fetch_voices(tmp_path / "file" / "cache", progress=lambda _: None)


# --- a folder of one's own ----------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for number, (speaker, suffix) in enumerate({"ann": "wav", "bob": "flac", "eve": "ogg"}.items()):
        for take in range(2):
            write(tmp_path / speaker / f"{take}.{suffix}", burst(10 * number + take, 2, 16000), 16000)
    return tmp_path


def test_folder_gives_speech_by_speaker(own: Path) -> None:
    (own / "ann/notes.txt").write_text("not audio")
    write(own / "ann/short.wav", burst(1, 0.5))
    write(own / "ann/.hidden.wav", burst(2, 2))
    write(own / "bob/deeper/2.wav", burst(3, 2))
    (own / ".git").mkdir()
    assert voices_from_folder(own) == {
        "ann": [own / "ann/0.wav", own / "ann/1.wav"],
        "bob": [own / "bob/0.flac", own / "bob/1.flac", own / "bob/deeper/2.wav"],
        "eve": [own / "eve/0.ogg", own / "eve/1.ogg"],
    }


def test_two_speakers_are_too_few(own: Path) -> None:
    shutil.rmtree(own / "eve")
    with pytest.raises(SetupError, match="has 2 sub-folders, must have one for each of 3 or more"):
        voices_from_folder(own)


def test_a_speaker_with_one_recording_is_named(own: Path) -> None:
    (own / "bob/1.flac").unlink()
    with pytest.raises(SetupError, match="folder bob has 1 usable recordings, must have 2"):
        voices_from_folder(own)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nowhere is not a folder"):
        voices_from_folder(tmp_path / "nowhere")
