"""The calibration that comes with a brought model: which tail of strangers' similarities it states.

The file has the form of `calibration.json`: `model_id` and `nodes`, a grid of amounts of speech and levels
of noise, each with the mean and deviation of a normal distribution fitted to the most similar strangers.
"""

from __future__ import annotations

import json
import math
from statistics import NormalDist

from sonant.errors import SetupError
from sonant.voice.risk import ImpostorTail

#: The two shares of strangers at which the tail is laid through the node's: 10 % and 0.1 %.
_SHARES = (0.1, 0.001)


def impostor_tail_of(text: str, model_id: str) -> ImpostorTail:
    """The tail for the most speech and the least noise in the file. Raises SetupError that says what is wrong
    with the file, or whose it is."""
    try:
        value = json.loads(text)
        made_for, nodes = str(value["model_id"]), list(value["nodes"])
        best = max(nodes, key=lambda node: (float(node["speech_s"]), float(node["snr_db"])))
        mean, deviation = float(best["mean"]), float(best["deviation"])
    except (ValueError, KeyError, TypeError) as fault:
        raise SetupError(f"the calibration cannot be read: {type(fault).__name__}: {fault}") from None
    if made_for != model_id:
        raise SetupError(f"the calibration is of the voice model {made_for[:64]}, not of {model_id}")
    if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0):
        raise SetupError("the calibration's mean must be finite and its deviation above 0")
    # The same similarities at both shares, on the scale of Fisher's z.
    deviates = [-NormalDist().inv_cdf(share) for share in _SHARES]
    z = [math.atanh(min(0.999, max(-0.999, mean + deviation * deviate))) for deviate in deviates]
    spread = (z[1] - z[0]) / (deviates[1] - deviates[0])
    if spread <= 0:
        raise SetupError("the calibration has strangers who are as alike as one person to itself")
    return ImpostorTail(mean=z[0] - spread * deviates[0], deviation=spread)
