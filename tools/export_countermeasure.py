#!/usr/bin/env python3
"""Export a wav2vec 2.0 or WavLM detector of synthetic speech as ONNX, for `sonant model add`.

    python tools/export_countermeasure.py MODEL --spoofed 1 --out detector.onnx
    sonant model add detector.onnx --kind countermeasure --id detector --licence LICENCE

MODEL is a folder, or the name of a repository, with an audio classifier of the `transformers` library of two
classes (or of one logit). `--spoofed` is the class, 0 or 1, that stands for synthetic speech (`id2label` in
its config.json names the classes), or `high` or `low` for one logit. What the model's feature extractor does
to the waveform (zero mean, unit variance) becomes part of the graph. The file says in its notes what
`sonant model add` would have to ask.

A network of another form is exported in the same way: give `export` a torch module that takes a waveform
[1, samples] at 8 or 16 kHz and returns logits [1, 1] or [1, 2]; docs/models.md has the contract.

Needs torch, onnx and transformers. Networks are exported for one window of `--window` seconds; 4 s is what
most of them are trained with.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import onnx
import torch

RATE_HZ = 16000
OPSET = 17


class Normalized(torch.nn.Module):  # type: ignore[misc]  # torch is not installed where types are checked
    """A classifier of waveforms, with the normalization of its feature extractor."""

    def __init__(self, classifier: torch.nn.Module, *, normalize: bool) -> None:
        super().__init__()
        self.classifier, self.normalize = classifier, normalize

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Compute logits [1, classes] of a waveform [1, samples]."""
        if self.normalize:
            centred = samples - samples.mean(dim=1, keepdim=True)
            power = centred.square().mean(dim=1, keepdim=True)
            samples = centred * torch.rsqrt(power + 1e-7)
        found = self.classifier(samples)
        return found if isinstance(found, torch.Tensor) else found.logits


def export(network: torch.nn.Module, *, window_s: float, rate_hz: int, spoofed: str) -> bytes:
    """Export a network that takes a waveform [1, samples] and gives logits [1, 1] or [1, 2].

    The notes `sample_rate` and `spoofed` say how to feed and read it.
    """
    samples = 0.05 * torch.randn(1, round(window_s * rate_hz), generator=torch.Generator().manual_seed(1))
    network = network.eval()
    out = io.BytesIO()
    with torch.inference_mode():
        torch.onnx.export(
            network,
            (samples,),
            out,
            input_names=["samples"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(out.getvalue())
    notes = {"sample_rate": str(rate_hz), "spoofed": spoofed}
    for name, text in notes.items():
        model.metadata_props.add(key=name, value=text)
    return bytes(model.SerializeToString())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder or repository of the classifier")
    parser.add_argument("--spoofed", required=True, choices=("0", "1", "high", "low"))
    parser.add_argument("--window", type=float, default=4.0, help="seconds")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    extractor = AutoFeatureExtractor.from_pretrained(options.model)
    if extractor.sampling_rate != RATE_HZ:
        sys.exit(f"the model takes {extractor.sampling_rate} Hz, must take {RATE_HZ}")
    classifier = AutoModelForAudioClassification.from_pretrained(options.model, attn_implementation="eager")
    network = Normalized(classifier, normalize=bool(getattr(extractor, "do_normalize", False)))
    content = export(network, window_s=options.window, rate_hz=RATE_HZ, spoofed=options.spoofed)
    options.out.write_bytes(content)
    print(f"wrote {options.out}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
