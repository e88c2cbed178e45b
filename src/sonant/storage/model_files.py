"""Voice models that users have added, each in a folder under `models` in the data folder.

    models/<id>/model.onnx        the network, as it was added
    models/<id>/manifest.json     its inputs and outputs, licence, source and checksum
    models/<id>/calibration.json  its calibration; without it the model cannot be used

A model appears and disappears as a whole: its folder is renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sonant.errors import SetupError
from sonant.storage.files import sync_folder

#: Letters, digits and `. _ -`; at most as long as the database's columns.
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_MODEL_BYTES = 1 << 30
MAX_CALIBRATION_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 1 << 16
_MODEL, _MANIFEST, _CALIBRATION = "model.onnx", "manifest.json", "calibration.json"
_TEMPORARY = ".adding-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """The facts of an added model."""

    model_id: str
    kind: str
    rate_hz: int
    mels: int
    output: str
    """The network's output that is the embedding."""
    dimensions: int
    sha256: str
    size_bytes: int
    licence: str
    source: str
    """Its origin."""
    added_at: str
    ms_a_second: float
    """Processor time for a second of speech, measured when it was added."""
    shipped_ms_a_second: float
    """The same of the model that ships with Sonant, measured at the same time."""
    spoofed: str = ""
    """Of a countermeasure, what stands for synthetic speech: a `high` or `low` logit, or class `0` or `1`."""

    @classmethod
    def parse(cls, text: bytes) -> ModelManifest:
        """Parse a manifest. Raises ValueError, TypeError or KeyError."""
        value = json.loads(text)
        found: dict[str, Any] = {}
        for one in fields(cls):
            if one.name not in value and one.default is not MISSING:
                continue  # models that were added by earlier releases
            kind = {"str": str, "int": int, "float": (int, float)}[str(one.type)]
            if not isinstance(value[one.name], kind):  # type: ignore[arg-type]
                raise TypeError(one.name)
            found[one.name] = value[one.name]
        return cls(**found)


class ModelFiles:
    """The models of one data folder. The first model makes the folder."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "models"

    def ids(self) -> list[str]:
        """Return the ids of all models, sorted."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                path.name
                for path in self._folder.iterdir()
                if ID_PATTERN.fullmatch(path.name) and (path / _MANIFEST).is_file()
            )
        return []

    def find(self, model_id: str) -> ModelManifest | None:
        """Return a model's manifest, or None. Raises SetupError when it is damaged."""
        path = self._path(model_id, _MANIFEST)
        if not path.is_file():
            return None
        try:
            manifest = ModelManifest.parse(_read(path, _MAX_MANIFEST_BYTES))
            if manifest.model_id != model_id:
                raise ValueError(manifest.model_id)
        except (OSError, ValueError, TypeError, KeyError):
            raise SetupError(f"{path} is damaged: remove the voice model and add it again") from None
        return manifest

    def get(self, model_id: str) -> ModelManifest:
        """Return a model's manifest. Raises SetupError when there is no such model."""
        manifest = self.find(model_id)
        if manifest is None:
            raise SetupError(
                f"there is no voice model {model_id[:64]!r}: see `sonant model list`, "
                "or add it with `sonant model add`"
            )
        return manifest

    def read(self, manifest: ModelManifest) -> bytes:
        """Read the network. Raises SetupError when it is not the one that was added."""
        path = self._path(manifest.model_id, _MODEL)
        try:
            content = _read(path, MAX_MODEL_BYTES)
        except OSError as fault:
            raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
        found = hashlib.sha256(content).hexdigest()
        if found != manifest.sha256:
            raise SetupError(
                f"{path} has sha256 {found}, must have {manifest.sha256}: "
                "remove the voice model and add it again"
            )
        return content

    def calibration(self, model_id: str) -> str | None:
        """Read the calibration's text, or return None. Raises SetupError when it cannot be read."""
        path = self._path(model_id, _CALIBRATION)
        try:
            return _read(path, MAX_CALIBRATION_BYTES).decode("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise SetupError(f"{path} cannot be read") from None

    def add(self, manifest: ModelManifest, content: bytes, calibration: str | None) -> None:
        """Add a model. Raises SetupError when there is one of this id, or it cannot be written."""
        target = self._path(manifest.model_id)
        if target.exists():
            raise SetupError(f"the voice model {manifest.model_id} exists already")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._folder))
            try:
                _write(temporary / _MODEL, content)
                _write(temporary / _MANIFEST, json.dumps(asdict(manifest), indent=2).encode())
                if calibration is not None:
                    _write(temporary / _CALIBRATION, calibration.encode())
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync_folder(self._folder)
        except OSError as fault:
            raise SetupError(f"{target} cannot be written: {fault.strerror}") from None

    def put_calibration(self, model_id: str, text: str) -> None:
        """Set or replace the calibration of a model. Raises SetupError."""
        self.get(model_id)
        target = self._path(model_id, _CALIBRATION)
        temporary = target.with_name(f"{_TEMPORARY}{os.getpid()}")
        try:
            _write(temporary, text.encode())
            temporary.rename(target)
            sync_folder(target.parent)
        except OSError as fault:
            raise SetupError(f"{target} cannot be written: {fault.strerror}") from None

    def remove(self, model_id: str) -> None:
        """Remove a model. Raises SetupError when there is none, or it cannot be removed."""
        self.get(model_id)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._folder))
        try:
            self._path(model_id).rename(temporary / model_id)
            shutil.rmtree(temporary)
        except OSError as fault:
            raise SetupError(f"the voice model {model_id} cannot be removed: {fault.strerror}") from None

    def _path(self, model_id: str, file: str = "") -> Path:
        if not ID_PATTERN.fullmatch(model_id):
            raise SetupError(f"{model_id[:64]!r} is not the id of a voice model")
        return self._folder / model_id / file


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise SetupError(f"{path} is larger than {max_bytes} bytes")
    return content


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
