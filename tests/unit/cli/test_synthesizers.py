"""Synthesizers from Debian's packages: complete without anything installed, and heard when they fail."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from debian_source import debian_source, needs_apt

from sonant.demo import debian
from sonant.demo.synthesizers import fetch_synthesizers, speak
from sonant.errors import SetupError

SPEECH = Path(os.environ.get("SONANT_SPEECH_CACHE") or Path(__file__).parents[3] / ".cache" / "speech")


@pytest.fixture(scope="session")
def espeak_ng() -> Path:
    """The real one, fetched once into the cache."""
    found = fetch_synthesizers(SPEECH.absolute().parent / "synthesizers", ["espeak-ng"], progress=print)
    return found.trees["espeak-ng"]


@needs_apt
def test_every_library_of_a_fetched_program_comes_with_it(espeak_ng: Path) -> None:
    *loader, program = debian.command(espeak_ng, "usr/bin/espeak-ng")
    done = debian.run([*loader, "--list", program], espeak_ng, 30)
    assert done.returncode == 0, done.stderr
    libraries = dict(line.split(" => ") for line in done.stdout.splitlines() if " => " in line)
    assert "libpulse.so.0" in " ".join(libraries)  # what only the needs of needs name
    outside = {name for name, place in libraries.items() if str(espeak_ng) not in place}
    assert not outside


@needs_apt
def test_a_fetched_synthesizer_speaks_without_the_callers_settings(
    espeak_ng: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HOME": "/nowhere", "LD_LIBRARY_PATH": "/lib", "LD_PRELOAD": "nothing.so"}.items():
        monkeypatch.setenv(name, value)
    said = speak("espeak-ng", espeak_ng, "en-us", "Good morning")
    assert 0.3 < len(said) / 8000 < 5
    assert np.abs(said).max() > 0.05


@needs_apt
def test_a_synthesizer_that_the_sources_lack_is_missing_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian_source(tmp_path, monkeypatch).carry("flite", "1.0", {"usr/bin/flite": ""})
    found = fetch_synthesizers(tmp_path / "cache", ["espeak-ng", "flite-diphone"], progress=lambda _: None)
    assert found.missing == {"espeak-ng": "this system's package sources have no espeak-ng"}
    assert found.trees == {"flite-diphone": tmp_path / "cache/flite-diphone"}
    assert (tmp_path / "cache/flite-diphone/usr/bin/flite").is_file()


@needs_apt
def test_a_tree_without_its_list_of_packages_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian_source(tmp_path, monkeypatch).carry("flite", "1.0", {"usr/bin/flite": ""})
    old = tmp_path / "cache/flite-diphone/usr/bin/old"
    old.parent.mkdir(parents=True)
    old.touch()
    fetch_synthesizers(tmp_path / "cache", ["flite-diphone"], progress=lambda _: None)
    assert [file.name for file in old.parent.iterdir()] == ["flite"]


def test_error_quotes_the_synthesizers_reason(tmp_path: Path) -> None:
    loader = tmp_path / "lib/a-linux-gnu/ld-linux.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text("#!/bin/sh\necho 'libpulse.so.0: cannot open shared object file' >&2\nexit 127\n")
    loader.chmod(0o755)
    with pytest.raises(SetupError, match=r"flite-diphone cannot speak: libpulse\.so\.0: cannot open"):
        speak("flite-diphone", tmp_path, "kal", "Good morning")


def test_missing_apt_error_names_an_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"this system has no apt-get.* Use Debian or Ubuntu"):
        fetch_synthesizers(tmp_path / "cache", ["espeak-ng"], progress=lambda _: None)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be stored in .*file/cache"):
        fetch_synthesizers(tmp_path / "file/cache", ["espeak-ng"], progress=lambda _: None)
