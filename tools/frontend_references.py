#!/usr/bin/env python3
"""Compute reference features with the toolkits' own code, for tests/unit/voice/frontend_references.json.

    pip download --no-deps speechbrain==1.1.2 nemo-toolkit==3.0.0
    pip install torch librosa kaldi-native-fbank sonant
    python tools/frontend_references.py speechbrain-1.1.2-*.whl nemo_toolkit-3.0.0-*.whl

Of SpeechBrain and NeMo only the feature files are loaded; what else they import is not needed for features.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import types
import zipfile
from pathlib import Path
from unittest.mock import MagicMock

import kaldi_native_fbank
import numpy as np
import torch

from sonant.voice.audio.test_signal import voice_like_signal

OUT = Path(__file__).resolve().parent.parent / "tests" / "unit" / "voice" / "frontend_references.json"
ROWS = (0, 1, 2, 40, 97)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheels", type=Path, nargs="+", help="the two packages")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write, else the one of the tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for wheel in options.wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        found = {
            f"{kind} {rate_hz}": {str(row): rows[row] for row in ROWS}
            for rate_hz in (8000, 16000)
            for kind, rows in (
                ("speechbrain", speechbrain(Path(folder), rate_hz)),
                ("nemo", nemo(Path(folder), rate_hz)),
                ("kaldi-hamming", kaldi(rate_hz, "hamming")),
                ("kaldi-povey", kaldi(rate_hz, "povey")),
            )
        }
    options.out.write_text(json.dumps(found) + "\n")
    return 0


def speechbrain(folder: Path, rate_hz: int) -> dict[int, list[float]]:
    module = load(folder / "speechbrain/processing/features.py")
    signal = torch.from_numpy(voice_like_signal(rate_hz, 1.0))[None]
    points = rate_hz // 40
    spectrum = module.spectral_magnitude(module.STFT(sample_rate=rate_hz, n_fft=points)(signal))
    banks = module.Filterbank(n_mels=80, n_fft=points, sample_rate=rate_hz, f_max=rate_hz // 2)
    features = banks(spectrum)[0]
    return rows((features - features.mean(dim=0)).numpy())


def nemo(folder: Path, rate_hz: int) -> dict[int, list[float]]:
    module = load(folder / "nemo/collections/asr/parts/preprocessing/features.py")
    signal = torch.from_numpy(voice_like_signal(rate_hz, 1.0))[None]
    featurizer = module.FilterbankFeatures(
        sample_rate=rate_hz,
        n_window_size=rate_hz // 40,
        n_window_stride=rate_hz // 100,
        normalize="per_feature",
        n_fft=512 * rate_hz // 16000,
        nfilt=80,
        pad_to=0,
    ).eval()
    features, length = featurizer(signal, torch.tensor([signal.shape[1]]))
    return rows(features[0, :, : int(length[0])].numpy().T)


def kaldi(rate_hz: int, window: str) -> dict[int, list[float]]:
    """Compute features of samples on the scale of 16-bit numbers, without any normalization."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = rate_hz, 0.0
    options.frame_opts.window_type, options.frame_opts.snip_edges = window, True
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = 80, 20, 0
    options.use_energy = False
    banks = kaldi_native_fbank.OnlineFbank(options)
    banks.accept_waveform(rate_hz, (voice_like_signal(rate_hz, 1.0) * np.float32(32768)).tolist())
    banks.input_finished()
    return rows(np.array([banks.get_frame(frame) for frame in range(banks.num_frames_ready)]))


def rows(features: np.ndarray) -> dict[int, list[float]]:
    return {row: [round(float(value), 4) for value in features[row]] for row in ROWS}


class _Stubs:
    """Replaces the packages that the feature files import and do not need here."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> object:
        if name.split(".")[0] not in {"nemo", "speechbrain"}:
            return None
        import importlib.machinery

        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: object) -> types.ModuleType:
        module = types.ModuleType(spec.name)  # type: ignore[attr-defined]
        module.__getattr__ = lambda name: _same if name.startswith(("mark_", "register_")) else MagicMock()  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _same(value: object) -> object:
    return value


def load(path: Path) -> types.ModuleType:
    import importlib.util

    if not any(isinstance(finder, _Stubs) for finder in sys.meta_path):
        sys.meta_path.append(_Stubs())  # type: ignore[arg-type]
    spec = importlib.util.spec_from_file_location(path.parent.name + "_features", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
