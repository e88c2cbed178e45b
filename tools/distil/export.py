#!/usr/bin/env python3
"""Write trained weights as the ONNX graph that the product runs.

python tools/distil/export.py --weights RUN/best.pt --out ge2e_tel8k.onnx
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from model_graphs import speaker_encoder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    state = torch.load(options.weights, map_location="cpu", weights_only=True)
    content = speaker_encoder({name: tensor.numpy() for name, tensor in state.items()})
    options.out.write_bytes(content)
    print(f"{options.out.name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
