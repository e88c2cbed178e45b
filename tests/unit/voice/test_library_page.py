"""The examples of docs/library.md run in their order, on real speech."""

from __future__ import annotations

import re
from pathlib import Path

import soundfile

PAGE = Path(__file__).parents[3] / "docs" / "library.md"


def test_examples_of_the_page_run(spoken, tmp_path, monkeypatch):
    for name, voice, seconds, first_clip in (
        ("monday", "english", 20, 0),
        ("tuesday", "english", 12, 100),
        ("stranger", "french", 12, 0),
        ("short", "english", 1, 0),
    ):
        soundfile.write(tmp_path / f"{name}.wav", spoken(voice, seconds, first_clip), 8000, subtype="PCM_16")
    monkeypatch.chdir(tmp_path)
    pcm = soundfile.read("tuesday.wav", dtype="int16")[0].astype("<i2").tobytes()
    names: dict[str, object] = {"frames": [pcm[start : start + 320] for start in range(0, len(pcm), 320)]}

    blocks = re.findall(
        r"(<!-- not run -->\n)?^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    examples = [example for not_run, example in blocks if not not_run]
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)

    assert len(examples) == 7
    assert names["accepted"] is True
