"""Load the networks that ship with Sonant and verify their checksums.

`models.json` lists each file with its origin and SHA-256; `tools/build_models.py` builds and checks them,
`tools/distil` trained the light speaker encoder. `packaged` finds the speaker encoders by id.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError

if TYPE_CHECKING:
    import onnxruntime

ENCODER, DETECTOR, SEGMENTATION = "speaker-encoder", "speech-detector", "speaker-segmentation"
CAMPPLUS = "speaker-encoder-campplus"
GPU = "CUDAExecutionProvider"
REPAIR_HINT = "reinstall sonant, or build the models again with tools/build_models.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The networks of one process. Load once with `load_models` and share."""

    encoder: onnxruntime.InferenceSession
    """`mels` [n, 160, 40] to `embeddings` [n, 256]."""
    encoder_id: str
    """Model id of every embedding."""
    centre: NDArray[np.float32]
    """Mean embedding of many people, shape [256], subtracted from every embedding."""
    detector: onnxruntime.InferenceSession
    """`frames` [n, 288], `h`, `c` [1, 1, 128] to `probabilities` [n], `hn`, `cn`."""
    detector_id: str
    segmentation: onnxruntime.InferenceSession
    """`samples` [n, t] to `probabilities` [n, frames, 7]; see `segmentation`."""


def load_models(folder: Traversable | None = None) -> Models:
    """Open the networks from the package's data, or from another folder of the same form.

    Raises SetupError if a file is missing, is not the one that `models.json` pins, or cannot be opened.
    """
    folder = folder or resources.files(__name__)
    with _reading_model_list():
        entries = _entries(folder)
        encoder, detector = entries[ENCODER], entries[DETECTOR]
        return Models(
            encoder=_open(folder, encoder),
            encoder_id=encoder["id"],
            centre=_centre(folder, encoder["centre"]),
            detector=_open(folder, detector),
            detector_id=detector["id"],
            segmentation=_open(folder, entries[SEGMENTATION]),
        )


def open_pinned(folder: Traversable, *kinds: str) -> list[onnxruntime.InferenceSession]:
    """Open the networks of these kinds that `models.json` lists. Raises SetupError."""
    with _reading_model_list():
        entries = _entries(folder)
        return [_open(folder, entries[kind]) for kind in kinds]


def _entries(folder: Traversable) -> dict[str, dict[str, Any]]:
    return {entry["kind"]: entry for entry in json.loads(folder.joinpath("models.json").read_bytes())}


@contextmanager
def _reading_model_list() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise SetupError(
            f"the list of voice models cannot be read ({type(fault).__name__}): {REPAIR_HINT}"
        ) from None


def _centre(folder: Traversable, entry: dict[str, Any]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.load(io.BytesIO(_checked(folder, entry)), allow_pickle=False)
    return values


@cache
def packaged_entries() -> dict[str, dict[str, Any]]:
    """Read the list of networks that ship, by kind, without opening them. Raises SetupError."""
    with _reading_model_list():
        return _entries(resources.files(__name__))


def shipped_encoder_id() -> str:
    """Read the id of GE2E, the encoder of domains whose record names none. Raises SetupError.

    Domains of releases that shipped one encoder name none; see `packaged` for the encoder of new ones.
    """
    with _reading_model_list():
        return str(packaged_entries()[ENCODER]["id"])


def open_packaged_encoder(kind: str) -> tuple[onnxruntime.InferenceSession, NDArray[np.float32]]:
    """Open a speaker encoder that ships, with its centre. Raises SetupError."""
    folder = resources.files(__name__)
    with _reading_model_list():
        entry = packaged_entries()[kind]
        return _open(folder, entry), _centre(folder, entry["centre"])


def _checked(folder: Traversable, entry: dict[str, Any]) -> bytes:
    """Read a file and compare its SHA-256 with `models.json`. Raises SetupError."""
    try:
        content = folder.joinpath(entry["file"]).read_bytes()
    except OSError:
        raise SetupError(f"voice model {entry['file']} is missing: {REPAIR_HINT}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise SetupError(
            f"voice model {entry['file']} has sha256 {found}, must have {entry['sha256']}: {REPAIR_HINT}"
        )
    return content


def _open(folder: Traversable, entry: dict[str, Any]) -> onnxruntime.InferenceSession:
    content = _checked(folder, entry)
    return open_session(content, entry["file"])


def check_gpu() -> None:
    """Raise SetupError when networks cannot be run on a GPU."""
    import onnxruntime

    if GPU not in onnxruntime.get_available_providers():
        raise SetupError(
            f"this onnxruntime has no {GPU}: install onnxruntime-gpu in its place, or ask for no GPUs"
        )


def open_session(content: bytes, name: str, *, gpu: bool = False) -> onnxruntime.InferenceSession:
    """Open a network in a session of one thread. Raises SetupError, which calls it `name`."""
    import onnxruntime  # here, because services and runners that open no network need not load it

    if gpu:
        check_gpu()
    options = onnxruntime.SessionOptions()
    # One thread per session: the service scales by processes, and spinning idle threads take their cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Recordings differ in length: an arena would keep memory for the largest shapes ever used.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 3
    # A file can be of ONNX and of onnxruntime's own format at once, and only the first is looked through.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=[GPU] * gpu + ["CPUExecutionProvider"]
        )
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises classes of its own that share no base
        raise SetupError(
            f"voice model {name} cannot be opened by onnxruntime {onnxruntime.__version__}: {fault}"
        ) from None
