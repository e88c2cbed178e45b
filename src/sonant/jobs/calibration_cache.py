"""What similarities mean in a domain: its own calibration, else the installation's, else the model's own."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from sonant.storage.repositories import calibrations
from sonant.voice.calibration.file import calibration_of
from sonant.voice.calibration.model import Calibration

#: The calibration that came with a voice model, by its id. Raises SetupError for a model without one.
CalibrationOf = Callable[[str], Calibration]


def domain_calibration(
    connection: Connection, domain_id: str, model_id: str, base: CalibrationOf = calibration_of
) -> Calibration:
    """The calibration that counts; `base` knows what came with the models. Raises SetupError."""
    brought = base(model_id)
    own = calibrations.find(connection, domain_id, model_id)
    return brought if own is None else brought.adapted(own.shift, own.scale, own.supported_log10_far)


class CalibrationCache:
    """The calibrations of one domain in one transaction, each looked up once."""

    def __init__(self, connection: Connection, domain_id: str, base: CalibrationOf) -> None:
        self._connection, self._domain_id, self._base = connection, domain_id, base
        self._found: dict[str, Calibration] = {}

    def of(self, model_id: str) -> Calibration:
        """Raises SetupError for a voice model without a calibration."""
        if model_id not in self._found:
            self._found[model_id] = domain_calibration(
                self._connection, self._domain_id, model_id, self._base
            )
        return self._found[model_id]
