"""Load the networks of synthetic speech detection, and calibrate their scores together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

from sonant.errors import SetupError
from sonant.voice import models
from sonant.voice.spoofing.countermeasure import Countermeasure
from sonant.voice.spoofing.tail import GenuineTail

if TYPE_CHECKING:
    import onnxruntime

LIGHT, NETWORK = "spoofing-light", "spoofing-network"
CALIBRATION = "spoofing_light.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofingCalibration:
    """The figures that `tools/train_spoofing.py` measured on genuine speech outside the training data."""

    network_from: float
    """Logit of the small network from which on the large one is run: the top twentieth of genuine speech."""
    network_weight: float
    """Weight of the large network's odds; 0 where they said nothing that the small network did not know."""
    network_middle: float
    """Median of the large network's odds among genuine recordings that it is run for."""
    network_bound: float
    """The most that the large network adds to a logit, or takes from it."""
    alone: GenuineTail
    """Logits of the small network."""
    together: GenuineTail
    """Logits of both."""

    def logit(self, light_logit: float, odds: float | None) -> float:
        """Merge both networks' evidence to one logit.

        The large network's part is bounded, so that it cannot clear what the small one is certain of.
        """
        if odds is None:
            return light_logit
        found = self.network_weight * (odds - self.network_middle)
        return light_logit + min(max(found, -self.network_bound), self.network_bound)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> SpoofingCalibration:
        """Parse the members of the file. Raises ValueError, KeyError or TypeError."""
        names = ("network_from", "network_weight", "network_middle", "network_bound")
        return cls(
            **{name: float(value[name]) for name in names},
            alone=parse_tail(value["alone"]),
            together=parse_tail(value["together"]),
        )

    def document(self) -> dict[str, Any]:
        """Give the members of the file."""
        return asdict(self)


def parse_tail(value: Mapping[str, Any]) -> GenuineTail:
    """Parse a distribution of genuine scores. Raises ValueError, KeyError or TypeError."""
    found = GenuineTail(middle=float(value["middle"]), tail=float(value["tail"]), scale=float(value["scale"]))
    if not found.middle < found.tail < float("inf") or not 0 < found.scale < float("inf"):
        raise ValueError("no distribution of scores has these figures")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedCountermeasure:
    """A detector that an operator has added, with its scores on genuine speech."""

    countermeasure: Countermeasure
    tail: GenuineTail


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofingModels:
    """The networks of one process. Load once with `load_spoofing_models` and share."""

    light: onnxruntime.InferenceSession
    """`features` [n, f] to `logits` [n]."""
    network: onnxruntime.InferenceSession
    """`samples` [n, 64600] to `logits` [n, 2], spoofed and genuine."""
    calibration: SpoofingCalibration
    added: tuple[CalibratedCountermeasure, ...] = ()
    """Detectors that the operator has added."""
    factor: float = 1.0
    """By how much several detectors have more false alarms than one; see `merging`."""


def load_spoofing_models(folder: Traversable | None = None) -> SpoofingModels:
    """Open both networks. Raises SetupError like `models.load_models`."""
    folder = folder or resources.files(models)
    light, network = models.open_pinned(folder, LIGHT, NETWORK)
    try:
        calibration = SpoofingCalibration.parse(json.loads(folder.joinpath(CALIBRATION).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise SetupError(
            f"the calibration of the spoofing models cannot be read ({type(fault).__name__}): "
            f"{models.REPAIR_HINT}"
        ) from None
    return SpoofingModels(light=light, network=network, calibration=calibration)
