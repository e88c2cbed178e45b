"""One process of the peer: embeds speakers as resemblyzer's own documentation does.

Runs in the peer's environment and knows nothing of Sonant. Reads a JSON list of lists of WAV files, says
`ready`, waits for a line, embeds, says `done`.
"""

from __future__ import annotations

import json
import sys

import librosa
import torch
from resemblyzer import VoiceEncoder, preprocess_wav


def embed_speaker(encoder: VoiceEncoder, paths: list[str]) -> None:
    """The customer's channel of each recording: preprocess_wav, embed_utterance; the mean over recordings."""
    wavs = []
    for path in paths:
        samples, rate_hz = librosa.load(path, sr=None, mono=False)
        wavs.append(preprocess_wav(samples[0], source_sr=rate_hz))
    vector = encoder.embed_speaker(wavs)
    assert vector.shape == (256,)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    encoder = VoiceEncoder("cpu", verbose=False)
    speakers = json.loads(sys.stdin.readline())
    embed_speaker(encoder, speakers[0][:1])  # librosa compiles itself on first use
    print("ready", flush=True)
    sys.stdin.readline()
    for paths in speakers:
        embed_speaker(encoder, paths)
    print("done", flush=True)


main()
