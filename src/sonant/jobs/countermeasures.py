"""Open the detectors of synthetic speech of an installation: the shipped networks and those added to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sonant.errors import SetupError
from sonant.storage.countermeasure_files import KIND, CountermeasureFiles
from sonant.storage.model_files import ModelManifest
from sonant.voice.models.frontends import RATES_HZ
from sonant.voice.spoofing.countermeasure import (
    SPOOFED,
    Countermeasure,
    CountermeasureFormat,
    open_countermeasure,
)
from sonant.voice.spoofing.models import SpoofingModels, load_spoofing_models
from sonant.voice.spoofing.own_calibration import OwnSpoofingCalibration


def open_added(files: CountermeasureFiles, model_id: str) -> Countermeasure:
    """Open an added countermeasure, its hash checked. Raises SetupError."""
    manifest = files.models.get(model_id)
    return open_countermeasure(files.models.read(manifest), model_id=model_id, form=format_of(manifest))


def format_of(manifest: ModelManifest) -> CountermeasureFormat:
    """Return the format of a countermeasure. Raises SetupError for one that this release does not support."""
    known = manifest.kind == KIND and manifest.rate_hz in RATES_HZ and manifest.spoofed in SPOOFED
    if not known:
        raise SetupError(f"the model {manifest.model_id} is of a kind that this release does not know")
    return CountermeasureFormat(
        rate_hz=manifest.rate_hz, mels=manifest.mels, output=manifest.output, spoofed=manifest.spoofed
    )


def calibration_in_use(files: CountermeasureFiles) -> OwnSpoofingCalibration | None:
    """Return the operator's calibration, None for the shipped one. Raises SetupError for a damaged one."""
    found = files.calibrations()
    return parse_calibration(found[0]) if found else None


def parse_calibration(document: dict[str, Any]) -> OwnSpoofingCalibration:
    """Parse a stored calibration. Raises SetupError."""
    try:
        return OwnSpoofingCalibration.parse(document)
    except (ValueError, KeyError, TypeError):
        raise SetupError(
            "the calibration of the spoofing detectors is damaged: take it back with "
            "`sonant calibrate spoofing --undo`"
        ) from None


def installed_models(
    files: CountermeasureFiles, shipped: Callable[[], SpoofingModels] = load_spoofing_models
) -> SpoofingModels:
    """Open the shipped networks and the countermeasures that the calibration in use covers.

    A countermeasure without calibration is not used: its scores mean nothing yet. Raises SetupError.
    """
    calibration = calibration_in_use(files)
    if calibration is None:
        return shipped()
    return calibration.applied(shipped(), {name: open_added(files, name) for name in calibration.added})


class InstalledModels:
    """The networks of a process, opened when they are first needed and when another calibration is in use."""

    def __init__(self, files: CountermeasureFiles) -> None:
        self._files = files
        self._version: tuple[int, int] | None = None
        self._models: SpoofingModels | None = None
        self._shipped: SpoofingModels | None = None

    def current(self) -> SpoofingModels:
        """Return the networks with the calibration in use. Raises SetupError."""
        version = self._files.version()
        if self._models is None or version != self._version:
            self._models, self._version = installed_models(self._files, self._load_shipped), version
        return self._models

    def _load_shipped(self) -> SpoofingModels:
        if self._shipped is None:
            self._shipped = load_spoofing_models()
        return self._shipped
