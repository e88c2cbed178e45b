"""What similarities mean in a domain: its own calibration, else the installation's, else the shipped one."""

from __future__ import annotations

from sqlalchemy import Connection

from sonant.store import calibrations
from sonant.voice.calibration import Calibration
from sonant.voice.calibration_file import calibration_of


def scale_of(connection: Connection, domain_id: str, model_id: str) -> Calibration:
    """The calibration that counts. Raises SetupError for a voice model without one."""
    shipped = calibration_of(model_id)
    own = calibrations.find(connection, domain_id, model_id)
    return shipped if own is None else shipped.adapted(own.shift, own.scale, own.supported_log10_far)
