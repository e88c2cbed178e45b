"""Readers of letters and words: offline, from small packages made here."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from debian_source import needs_apt

from sonant.demo.readers import fetch_readers
from sonant.errors import SetupError

pytestmark = needs_apt


def clips(folder: Path, count: int, channels: int = 1) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 0.02 * (1 + number), (22050 * 2, channels))
        soundfile.write(folder / f"{number:02d}.ogg", np.clip(noise, -1, 1), 22050)
    (folder / "broken.ogg").write_bytes(b"no sound")


def build(sources: Path, name: str, tree: Path) -> None:
    (tree / "DEBIAN").mkdir()
    control = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    notes = tree / "usr/share/doc" / name
    notes.mkdir(parents=True)
    (notes / "copyright").write_text("theirs")
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
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sources = tmp_path / "sources"
    sources.mkdir()
    letters, words = tmp_path / "letters", tmp_path / "words"
    clips(letters / "usr/share/klettres/pt_BR/alpha", 15)
    clips(letters / "usr/share/klettres/pt_BR/syllab", 10, channels=2)
    clips(letters / "usr/share/klettres/tn/alpha", 4)
    clips(words / "usr/share/ktuberling/sounds/pt", 21)
    build(sources, "klettres-data", letters)
    build(sources, "ktuberling-data", words)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{sources} ./\n")
    (tmp_path / "system.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "system.conf"))
    return sources


def test_clips_become_one_readers_recordings_a_language(source: Path, tmp_path: Path):
    found = fetch_readers(tmp_path / "cache", progress=lambda _text: None)

    assert set(found) == {"klettres-pt_BR", "ktuberling-pt"}
    assert {reader.language for reader in found.values()} == {"pt"}
    durations = [soundfile.info(file).duration for file in found["klettres-pt_BR"].recordings]
    assert sum(durations) == pytest.approx(50, abs=1)
    assert max(durations) == pytest.approx(20, abs=0.1)
    samples, rate_hz = soundfile.read(found["ktuberling-pt"].recordings[0])
    assert rate_hz == 8000
    first, second = np.abs(samples[:16000]).max(), np.abs(samples[16000:32000]).max()
    assert first == pytest.approx(second, abs=0.01)
    assert (tmp_path / "cache/readers/klettres-data.copyright").read_text() == "theirs"


def test_a_second_call_reads_the_cache_alone(source: Path, tmp_path: Path, monkeypatch):
    once = fetch_readers(tmp_path / "cache", progress=lambda _text: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert fetch_readers(tmp_path / "cache", progress=lambda _text: None) == once


def test_a_damaged_cache_is_fetched_anew(source: Path, tmp_path: Path):
    once = fetch_readers(tmp_path / "cache", progress=lambda _text: None)
    once["ktuberling-pt"].recordings[1].unlink()

    assert fetch_readers(tmp_path / "cache", progress=lambda _text: None) == once
    assert once["ktuberling-pt"].recordings[1].is_file()


def test_without_the_packages_it_says_so(tmp_path: Path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/Packages").touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{tmp_path}/empty ./\n")
    (tmp_path / "system.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "system.conf"))

    with pytest.raises(SetupError, match="none of the packages"):
        fetch_readers(tmp_path / "cache", progress=lambda _text: None)
