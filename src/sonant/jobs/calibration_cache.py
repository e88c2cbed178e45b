"""Find a domain's calibration: its own, fitted on its speakers, on top of the voice model's."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from sonant.storage.repositories import calibrations
from sonant.voice.calibration.file import calibration_of
from sonant.voice.calibration.model import Calibration

#: Finds the calibration that comes with a voice model, by its id. Raises SetupError for a model without one.
CalibrationOf = Callable[[str], Calibration]


def domain_calibration(
    connection: Connection, domain_id: str, model_id: str, base: CalibrationOf = calibration_of
) -> Calibration:
    """Find the calibration in effect; `base` finds those that come with models. Raises SetupError."""
    shipped = base(model_id)
    own = calibrations.find(connection, domain_id, model_id)
    return shipped if own is None else shipped.adapted(own.shift, own.scale, own.supported_log10_far)


class CalibrationCache:
    """Holds the calibrations of one domain in one transaction, each looked up once."""

    def __init__(self, connection: Connection, domain_id: str, base: CalibrationOf) -> None:
        self._connection, self._domain_id, self._base = connection, domain_id, base
        self._found: dict[str, Calibration] = {}

    def of(self, model_id: str) -> Calibration:
        """Find the calibration of a voice model. Raises SetupError for a model without one."""
        if model_id not in self._found:
            self._found[model_id] = domain_calibration(
                self._connection, self._domain_id, model_id, self._base
            )
        return self._found[model_id]
