"""Detectors of synthetic speech that the operator has added, and the calibrations of all detectors.

    models/spoofing/models/<id>/          an added countermeasure, as `model_files` describes
    models/spoofing/calibrations.json     calibrations on the operator's own recordings, the one in use first

The folder lies in that of the voice models, which hosts of Ray's actors have, too.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sonant.errors import SetupError
from sonant.storage.files import sync_folder
from sonant.storage.model_files import ModelFiles

KIND = "countermeasure"
"""Kind of such models in their manifests and in `sonant model add --kind`."""
_MAX_BYTES = 1 << 20
_MOST = 20
"""Calibrations that are kept."""


class CountermeasureFiles:
    """The countermeasures of one data folder. The first one makes the folder."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "models" / "spoofing"
        self._path = self._folder / "calibrations.json"
        self.models = ModelFiles(self._folder)

    def calibrations(self) -> list[dict[str, Any]]:
        """Return the documents of all calibrations, the one in use first. Raises SetupError."""
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(_MAX_BYTES))["calibrations"]
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise TypeError("calibrations")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError):
            raise SetupError(
                f"{self._path} is damaged: restore it from a backup, or remove it and run "
                "`sonant calibrate spoofing` again"
            ) from None
        return found

    def put_calibration(self, document: dict[str, Any]) -> None:
        """Put a calibration into use. Raises SetupError."""
        self._write([document, *self.calibrations()][:_MOST])

    def undo_calibration(self) -> bool:
        """Take the newest calibration back; False if there is none. Raises SetupError."""
        found = self.calibrations()
        if found:
            self._write(found[1:])
        return bool(found)

    def version(self) -> tuple[int, int] | None:
        """Return a value that changes with the calibrations; None if there are none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def digest(self) -> str:
        """Return the SHA-256 of the calibration in use; empty if there is none. Raises SetupError."""
        found = self.calibrations()
        return hashlib.sha256(json.dumps(found[0], sort_keys=True).encode()).hexdigest() if found else ""

    def _write(self, calibrations: list[dict[str, Any]]) -> None:
        temporary = self._path.with_name(f"calibrations.{os.getpid()}.tmp")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = json.dumps({"calibrations": calibrations}, indent=2).encode()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.rename(self._path)
            sync_folder(self._folder)
        except OSError as fault:
            raise SetupError(f"{self._path} cannot be written: {fault.strerror}") from None
