"""Trial lists, folders of speakers, and facts about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sonant.errors import SetupError
from sonant.evaluation.trials import (
    SpeakerInfo,
    Trial,
    read_speaker_info,
    read_trials,
    recordings_by_speaker,
    speakers_of,
)


def trial(reference: Path, probe: Path, genuine: bool) -> Trial:
    return Trial(reference=reference, probe=probe, genuine=genuine)


@pytest.mark.parametrize(
    "text",
    [
        "a/1.wav a/2.wav target\na/1.wav b/1.wav nontarget\n",
        "1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n",
        "# kept apart\n\n1\ta/1.wav\ta/2.wav\r\n0\ta/1.wav\tb/1.wav",
    ],
)
def test_both_common_trial_formats_are_read(tmp_path, text):
    (tmp_path / "trials.txt").write_text(text)

    assert read_trials(tmp_path / "trials.txt") == [
        trial(tmp_path / "a/1.wav", tmp_path / "a/2.wav", True),
        trial(tmp_path / "a/1.wav", tmp_path / "b/1.wav", False),
    ]


def test_paths_with_spaces_and_another_root_are_read(tmp_path):
    (tmp_path / "trials.txt").write_text("my voice.wav\tother voice.wav\tnontarget\n")

    (found,) = read_trials(tmp_path / "trials.txt", Path("/audio"))

    assert found == trial(Path("/audio/my voice.wav"), Path("/audio/other voice.wav"), False)


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "no trials"), ("1 a b\n2 a b\n", "line 2"), ("a b\n", "line 1"), ("a b maybe\n", "line 1")],
)
def test_unreadable_list_names_the_line(tmp_path, text, says):
    (tmp_path / "trials.txt").write_text(text)

    with pytest.raises(SetupError, match=says):
        read_trials(tmp_path / "trials.txt")


def test_folders_name_the_speakers_unless_a_label_contradicts():
    root = Path("/r")
    a1, a2, b1 = root / "a/x/1.wav", root / "a/y/2.wav", root / "b/z/1.wav"

    named = speakers_of([trial(a1, a2, True), trial(a1, b1, False)], root)
    linked = speakers_of([trial(a1, a2, False), trial(a1, b1, True)], root)

    assert named == {a1: "a", a2: "a", b1: "b"}
    assert linked[a1] == linked[b1] != linked[a2]


def test_genuine_trials_link_the_recordings_of_one_speaker():
    one, two, three, four = (Path(f"/r/{name}.wav") for name in "1234")

    found = speakers_of([trial(one, two, True), trial(two, three, True), trial(one, four, False)], Path("/r"))

    assert found[one] == found[two] == found[three] != found[four]


def test_folder_gives_recordings_by_speaker(tmp_path):
    for name in (
        "ann/1.wav",
        "ann/deep/2.FLAC",
        "bob/1.ogg",
        "bob/notes.txt",
        ".cache/1.wav",
        "bob/.hidden.wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "ann/link.wav").symlink_to(tmp_path / "bob/1.ogg")
    (tmp_path / "empty").mkdir()

    assert recordings_by_speaker(tmp_path) == {
        "ann": [tmp_path / "ann/1.wav", tmp_path / "ann/deep/2.FLAC"],
        "bob": [tmp_path / "bob/1.ogg"],
    }


def test_folder_of_one_speaker_is_refused(tmp_path):
    (tmp_path / "ann").mkdir()
    soundfile.write(tmp_path / "ann/1.wav", np.zeros(8000), 8000)

    with pytest.raises(SetupError, match="1 sub-folders"):
        recordings_by_speaker(tmp_path)


def test_facts_are_read_by_column_names(tmp_path):
    (tmp_path / "speakers.csv").write_text("channel, speaker\nmobile,ann\n,bob\n")

    assert read_speaker_info(tmp_path / "speakers.csv") == {
        "ann": SpeakerInfo(channel="mobile"),
        "bob": SpeakerInfo(),
    }


@pytest.mark.parametrize(("text", "says"), [("name\nann\n", "columns"), ("speaker,gender\nann\n", "row 2")])
def test_unreadable_facts_name_the_fault(tmp_path, text, says):
    (tmp_path / "speakers.csv").write_text(text)

    with pytest.raises(SetupError, match=says):
        read_speaker_info(tmp_path / "speakers.csv")
