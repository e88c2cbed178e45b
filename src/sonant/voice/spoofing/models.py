"""The two countermeasures' networks and what their scores mean; loaded only where fraud is looked for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from importlib import resources
from importlib.resources.abc import Traversable

import onnxruntime

from sonant.errors import SetupError
from sonant.voice import models

LIGHT, NETWORK = "spoofing-light", "spoofing-network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What `tools/train_spoofing.py` measured on genuine speech that the detectors had not heard."""

    gate_logit: float
    gate_strangeness: float
    gated_share: float
    """Share of genuine recordings above either gate: the large network hears them."""
    light_middle: float
    """Median of genuine logits."""
    light_tail: float
    """What a tenth of genuine logits exceeds; beyond, their number falls exponentially."""
    light_scale: float
    """How far they exceed it on average."""
    network_middle: float
    network_tail: float
    network_scale: float
    """The same of the large network's odds, among genuine recordings above a gate."""

    def light_share(self, logit: float) -> float:
        """Share of genuine recordings with a logit as high."""
        return _share(logit, self.light_middle, self.light_tail, self.light_scale)

    def network_share(self, odds: float) -> float:
        """Share of genuine recordings that get past a gate and then have odds as high."""
        return self.gated_share * _share(odds, self.network_middle, self.network_tail, self.network_scale)

    def agreed_share(self, logit: float, odds: float) -> float:
        """Share of genuine recordings that alarm both detectors as much, at most.

        Both must agree: each alone takes genuine voices for a machine's. (When either could raise the alarm,
        a third of the recordings of one of 7 genuine telephone voices were flagged at risk 50.)
        """
        return max(self.light_share(logit), self.network_share(odds))


def _share(score: float, middle: float, tail: float, scale: float) -> float:
    """Upper tail of a distribution known by its median, its upper tenth and an exponential beyond that."""
    if score >= tail:
        return 0.1 * math.exp(-(score - tail) / scale)
    # Between: the logarithm runs straight through the median and the upper tenth, up to everybody.
    slope = math.log(0.1 / 0.5) / (tail - middle)
    return min(1.0, 0.5 * math.exp((score - middle) * slope))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofingModels:
    """Sessions of one process. Make them once with `load_spoofing_models` and pass them on."""

    light: onnxruntime.InferenceSession
    """`features` [n, f] to `logits` [n], `strangeness` [n]."""
    network: onnxruntime.InferenceSession
    """`samples` [n, 64600] to `logits` [n, 2], spoofed and genuine."""
    calibration: Calibration


def load_spoofing_models(folder: Traversable | None = None) -> SpoofingModels:
    """Open both networks. Raises SetupError like `models.load_models`."""
    folder = folder or resources.files(models)
    light, network = models.open_pinned(folder, LIGHT, NETWORK)
    try:
        found = json.loads(folder.joinpath("spoofing_light.json").read_bytes())
        calibration = Calibration(**{field.name: float(found[field.name]) for field in fields(Calibration)})
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise SetupError(
            f"the calibration of the spoofing models cannot be read ({type(fault).__name__}): {models.CURE}"
        ) from None
    return SpoofingModels(light=light, network=network, calibration=calibration)
