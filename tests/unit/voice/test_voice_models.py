"""The shipped networks: verified checksums and constant memory."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from sonant.errors import SetupError
from sonant.voice.models import load_models


@pytest.fixture
def copy(tmp_path):
    with resources.as_file(resources.files("sonant.voice.models")) as shipped:
        for path in shipped.iterdir():
            if path.suffix in (".onnx", ".json", ".npy"):
                shutil.copy(path, tmp_path)
    return tmp_path


def test_a_copy_of_the_shipped_models_opens(copy):
    assert load_models(copy).encoder_id == "ge2e-256-tel8k-2"


@pytest.mark.parametrize("file", ["ge2e.onnx", "ge2e_centre.npy", "silero_vad_8k.onnx", "segmentation.onnx"])
def test_changed_model_is_refused_with_a_remedy(copy, file):
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)

    with pytest.raises(SetupError, match=rf"{file} has sha256 .* must have .*: reinstall sonant"):
        load_models(copy)


def test_missing_model_is_refused_with_a_remedy(copy):
    (copy / "ge2e.onnx").unlink()

    with pytest.raises(SetupError, match=r"ge2e.onnx is missing: reinstall sonant"):
        load_models(copy)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[{}]", b"[1]", b"\xff"])
def test_unreadable_model_list_is_refused(copy, content):
    (copy / "models.json").write_bytes(content)

    with pytest.raises(SetupError, match="list of voice models cannot be read"):
        load_models(copy)


def test_listed_file_that_is_no_network_is_refused(copy):
    (copy / "ge2e.onnx").write_bytes(b"not a network")
    entries = json.loads((copy / "models.json").read_bytes())
    entries[0]["sha256"] = hashlib.sha256(b"not a network").hexdigest()
    (copy / "models.json").write_text(json.dumps(entries))

    with pytest.raises(SetupError, match=r"ge2e.onnx cannot be opened by onnxruntime"):
        load_models(copy)


def test_every_model_has_a_licence_and_an_entry_in_notice(copy):
    notice = (Path(__file__).parents[3] / "NOTICE").read_text()
    for entry in json.loads((copy / "models.json").read_bytes()):
        assert entry["licence"] in ("Apache-2.0", "MIT")
        if "script" in entry["source"]:  # trained here
            assert entry["source"]["script"] in notice
        else:
            assert len(entry["source"]["sha256"]) == 64
            assert f"{entry['source']['package']} {entry['source']['version']}" in notice
        assert entry["file"] in notice


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads resident memory from /proc")
@pytest.mark.slow
def test_memory_is_constant_over_two_thousand_calls(models):
    def resident_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    zero, rng = np.zeros((1, 1, 128), np.float32), np.random.default_rng(0)
    frames, mels = rng.normal(0, 0.1, (64, 288)).astype(np.float32), rng.random((4, 160, 40), np.float32)

    def call(number):
        models.detector.run(None, {"frames": frames[: 1 + number % 64], "h": zero, "c": zero})
        if number % 40 == 0:
            models.encoder.run(None, {"mels": mels[: 1 + number // 40 % 4]})

    for number in range(200):
        call(number)
    before = resident_mb()
    for number in range(2000):
        call(number)

    assert resident_mb() - before < 15
