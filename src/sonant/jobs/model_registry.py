"""Open voice models and their calibrations: the shipped model, and those that users have added."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from sonant.errors import SetupError
from sonant.storage.model_files import ModelFiles, ModelManifest
from sonant.voice.calibration.file import calibration_of, read_calibration
from sonant.voice.calibration.model import Calibration
from sonant.voice.models import Models, load_models, shipped_encoder_id
from sonant.voice.models.embedding import Embedder
from sonant.voice.models.frontends import KINDS, RATES_HZ, FrontEnd
from sonant.voice.models.packaged import packaged_embedder, packaged_entry
from sonant.voice.models.speaker_model import SpeakerModel, open_speaker_model

#: Finds an embedder by model id; None is GE2E, as in the record of a domain.
Embedders = Callable[[str | None], Embedder]

#: Added models that a worker holds open: the one in use, and its successor during an upgrade.
_OPEN = 2


def front_end_of(manifest: ModelManifest) -> FrontEnd:
    """Build the front-end of a model. Raises SetupError for a kind that this release does not support."""
    if manifest.kind not in KINDS or manifest.rate_hz not in RATES_HZ:
        raise SetupError(f"the voice model {manifest.model_id} is of a kind that this release does not know")
    return FrontEnd(kind=manifest.kind, rate_hz=manifest.rate_hz, mels=manifest.mels)


def open_model(files: ModelFiles, model_id: str, *, gpu: bool = False) -> SpeakerModel:
    """Open an added model, its hash checked. Raises SetupError."""
    manifest = files.get(model_id)
    return open_speaker_model(
        files.read(manifest),
        model_id=model_id,
        front_end=front_end_of(manifest),
        output=manifest.output,
        gpu=gpu,
    )


def embedder_opener(files: ModelFiles, model_id: str) -> Callable[[], Embedder] | None:
    """Build a function that opens a model in the process that uses it; None for the light one that ships.

    Raises SetupError for a model that is missing, or whose file has changed.
    """
    if model_id == shipped_encoder_id():
        return None
    check_model(files, model_id)
    return partial(_open_embedder, files, model_id)


def _open_embedder(files: ModelFiles, model_id: str) -> Embedder:
    return packaged_embedder(model_id, load_models()) or open_model(files, model_id).embed


def embedders(files: ModelFiles, models: Models, *, gpu: bool = False) -> Embedders:
    """Build the embedders of a worker process; added models are opened on first use, with `gpu` on a GPU.

    The shipped networks are too small to gain from one.
    """
    opened: OrderedDict[str, SpeakerModel] = OrderedDict()

    def find(model_id: str | None) -> Embedder:
        model_id = model_id or models.encoder_id
        shipped = packaged_embedder(model_id, models)
        if shipped is not None:
            return shipped
        if model_id not in opened:
            if len(opened) == _OPEN:
                opened.popitem(last=False)
            opened[model_id] = open_model(files, model_id, gpu=gpu)
        opened.move_to_end(model_id)
        return opened[model_id].embed

    return find


def check_model(files: ModelFiles, model_id: str | None) -> None:
    """Check an added model. Raises SetupError if it is missing, or its file has changed."""
    if model_id is not None and packaged_entry(model_id) is None:
        files.read(files.get(model_id))


def model_calibration(files: ModelFiles, model_id: str) -> Calibration:
    """Load the calibration that comes with a model. Raises SetupError for one without."""
    if packaged_entry(model_id) is not None:
        return calibration_of(model_id)
    text = files.calibration(model_id)
    if text is None:
        raise SetupError(uncalibrated_message(model_id))
    return calibration_for(text, model_id)


def calibration_for(text: str, model_id: str) -> Calibration:
    """Read a calibration, which must be of this model. Raises SetupError."""
    found = read_calibration(text)
    if found.model_id != model_id:
        raise SetupError(f"the calibration is of the voice model {found.model_id[:64]}, not of {model_id}")
    return found


def calibrated(files: ModelFiles, model_id: str) -> bool:
    """Return whether a model has a calibration, shipped or added, so that its scores have a meaning."""
    try:
        model_calibration(files, model_id)
    except SetupError:
        return False
    return True


def uncalibrated_message(model_id: str) -> str:
    """Say that a model has no calibration, and how to add one."""
    return (
        f"the voice model {model_id} has no calibration, so its scores would mean nothing: fit "
        f"one with `sonant calibrate --model {model_id} --speech DIR --apply`, "
        f"or bring one with `sonant model calibration {model_id} FILE`"
    )
