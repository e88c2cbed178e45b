"""The peers of `speech_cpu`, in environments of their own: CPU seconds for embedding WAV files, one by one.

Know nothing of Sonant. `peer_speech_cpu.py resemblyzer`: channel 0 of each file through resemblyzer's own
pipeline. `peer_speech_cpu.py sherpa_onnx MODEL`: each file whole through sherpa-onnx's extractor. A JSON list
of files comes on standard input; the last line of standard output is the CPU time of all but the first file,
which warms up.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable


def resemblyzer() -> Callable[[str], int]:
    import librosa
    import torch
    from resemblyzer import VoiceEncoder, preprocess_wav

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(path: str) -> int:
        samples, rate_hz = librosa.load(path, sr=None, mono=False)
        channel = samples if samples.ndim == 1 else samples[0]
        return len(encoder.embed_utterance(preprocess_wav(channel, source_sr=rate_hz)))

    return embed


def sherpa_onnx(model: str) -> Callable[[str], int]:
    import sherpa_onnx as sherpa
    import soundfile

    extractor = sherpa.SpeakerEmbeddingExtractor(
        sherpa.SpeakerEmbeddingExtractorConfig(model=model, num_threads=1, provider="cpu")
    )

    def embed(path: str) -> int:
        samples, rate_hz = soundfile.read(path, dtype="float32")
        stream = extractor.create_stream()
        stream.accept_waveform(rate_hz, samples)
        stream.input_finished()
        return len(extractor.compute(stream))

    return embed


def main() -> None:
    peers: dict[str, Callable[..., Callable[[str], int]]] = {
        "resemblyzer": resemblyzer,
        "sherpa_onnx": sherpa_onnx,
    }
    embed = peers[sys.argv[1]](*sys.argv[2:])
    files = json.load(sys.stdin)
    assert embed(files[0]) == 256
    begun = time.process_time()
    for file in files[1:]:
        embed(file)
    print(time.process_time() - begun)


main()
