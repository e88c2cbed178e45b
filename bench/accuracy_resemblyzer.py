"""The peer of accuracy: embeds WAV files as resemblyzer's own documentation does.

Runs in the peer's environment and knows nothing of Sonant: a JSON list of files in, an array [n, 256] out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from resemblyzer import VoiceEncoder, preprocess_wav


def main() -> None:
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    encoder = VoiceEncoder("cpu", verbose=False)
    files = json.loads(Path(sys.argv[1]).read_text())
    np.save(sys.argv[2], np.stack([encoder.embed_utterance(preprocess_wav(Path(file))) for file in files]))


main()
