"""Load the networks of synthetic speech detection and calibrate their scores."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from sonant.errors import SetupError
from sonant.voice import models

if TYPE_CHECKING:
    import onnxruntime

LIGHT, NETWORK = "spoofing-light", "spoofing-network"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofingCalibration:
    """The figures that `tools/train_spoofing.py` measured on genuine speech outside the training data."""

    gate_logit: float
    gate_strangeness: float
    gated_share: float
    """Share of genuine recordings above either gate, which the large network analyzes."""
    light_middle: float
    """The median of genuine logits."""
    light_tail: float
    """The upper tenth of genuine logits; beyond it their number falls exponentially."""
    light_scale: float
    """Their mean excess over the upper tenth."""
    network_middle: float
    network_tail: float
    network_scale: float
    """The same of the large network's odds, among genuine recordings above a gate."""

    def light_share(self, logit: float) -> float:
        """Compute the share of genuine recordings with at least this logit."""
        return _share(logit, self.light_middle, self.light_tail, self.light_scale)

    def network_share(self, odds: float) -> float:
        """Compute the share of genuine recordings that pass a gate and then have at least these odds."""
        return self.gated_share * _share(odds, self.network_middle, self.network_tail, self.network_scale)

    def agreed_share(self, logit: float, odds: float) -> float:
        """Bound the share of genuine recordings that both networks score at least so high.

        Both must agree: each alone flags genuine voices. (When either could flag a recording, a third of
        those of one of 7 genuine telephone voices were flagged at risk 50.)
        """
        return max(self.light_share(logit), self.network_share(odds))


def _share(score: float, middle: float, tail: float, scale: float) -> float:
    """Compute the upper tail of a distribution with this median and upper tenth, exponential beyond it."""
    if score >= tail:
        return 0.1 * math.exp(-(score - tail) / scale)
    # Below it the logarithm is a straight line through the median and the upper tenth, up to all recordings.
    slope = math.log(0.1 / 0.5) / (tail - middle)
    return min(1.0, 0.5 * math.exp((score - middle) * slope))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofingModels:
    """The networks of one process. Load once with `load_spoofing_models` and share."""

    light: onnxruntime.InferenceSession
    """`features` [n, f] to `logits` [n], `strangeness` [n]."""
    network: onnxruntime.InferenceSession
    """`samples` [n, 64600] to `logits` [n, 2], spoofed and genuine."""
    calibration: SpoofingCalibration


def load_spoofing_models(folder: Traversable | None = None) -> SpoofingModels:
    """Open both networks. Raises SetupError like `models.load_models`."""
    folder = folder or resources.files(models)
    light, network = models.open_pinned(folder, LIGHT, NETWORK)
    try:
        found = json.loads(folder.joinpath("spoofing_light.json").read_bytes())
        calibration = SpoofingCalibration(
            **{field.name: float(found[field.name]) for field in fields(SpoofingCalibration)}
        )
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise SetupError(
            f"the calibration of the spoofing models cannot be read ({type(fault).__name__}): "
            f"{models.REPAIR_HINT}"
        ) from None
    return SpoofingModels(light=light, network=network, calibration=calibration)
