"""Read and write calibrations as JSON: those that ship with Sonant and those that users fit."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources
from typing import Any

from sonant.errors import SetupError
from sonant.voice.calibration.model import Calibration, Node, Normal, PartLimits, Tail
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.packaged import packaged_entry

_MAX_NODES = 1000


def shipped_calibration() -> Calibration:
    """Load the calibration of the light encoder that ships, GE2E. Raises SetupError."""
    return calibration_of(shipped_encoder_id())


@cache
def calibration_of(model_id: str) -> Calibration:
    """Load the calibration that ships with an encoder. Raises SetupError for any other model."""
    entry = packaged_entry(model_id)
    if entry is None:
        raise SetupError(f"there is no calibration for the voice model {model_id}")
    name = entry["calibration"]
    try:
        text = resources.files("sonant.voice.models").joinpath(name).read_text("utf-8")
    except OSError:
        raise SetupError(f"{name} is missing: reinstall sonant") from None
    found = read_calibration(text)
    if found.model_id != model_id:
        raise SetupError(f"{name} is of the voice model {found.model_id[:64]}, not of {model_id}")
    return found


def read_calibration(text: str) -> Calibration:
    """Read a calibration file; unknown members, such as its provenance, are ignored.

    Raises SetupError that names the fault.
    """
    try:
        value = json.loads(text)
        nodes = tuple(_node(node) for node in value["nodes"])
        highpass_300hz = tuple(_node(node) for node in value.get("narrow", ()))
        model_id, supported = str(value["model_id"]), float(value["supported_log10_far"])
        part_limits = _part_limits(value.get("least_part_scores"))
        slope, offset = float(value["llr_slope"]), float(value["llr_offset"])
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise SetupError(f"calibration cannot be read: {type(fault).__name__}: {fault}") from None
    _check_grid("nodes", nodes)
    if highpass_300hz:
        _check_grid("narrow", highpass_300hz)
    if not (slope > 0 and math.isfinite(slope) and math.isfinite(offset) and math.isfinite(supported)):
        raise SetupError("calibration: llr_slope must be above 0, and all numbers finite")
    return Calibration(
        model_id=model_id,
        nodes=nodes,
        highpass_300hz=highpass_300hz,
        supported_log10_far=supported,
        llr_slope=slope,
        llr_offset=offset,
        part_limits=part_limits,
    )


def _part_limits(value: dict[str, Any] | None) -> PartLimits:
    """Read the least scores of a call's parts; those of GE2E where a model has none of its own."""
    if value is None:
        return PartLimits()
    found = PartLimits(halves=int(value["halves"]), thirds=int(value["thirds"]))
    if not all(0 <= one <= 100 for one in (found.halves, found.thirds)):
        raise ValueError("least_part_scores must be 0 to 100")
    return found


def _check_grid(name: str, nodes: tuple[Node, ...]) -> None:
    seconds, noises = {node.speech_s for node in nodes}, {node.snr_db for node in nodes}
    places = {(node.speech_s, node.snr_db) for node in nodes}
    if (
        not nodes
        or len(nodes) > _MAX_NODES
        or len(places) != len(nodes)
        or len(nodes) != len(seconds) * len(noises)
    ):
        raise SetupError(
            f"calibration: its {name} must be a full grid, one node for each speech_s with each snr_db"
        )
    if not all(node.speech_s > 0 and node.tail.z.deviation > 0 for node in nodes):
        raise SetupError("calibration: speech_s and deviation must be above 0")


def write_calibration(calibration: Calibration, provenance: dict[str, Any]) -> str:
    """Write the file's text, with a note on its provenance."""
    value = {
        "model_id": calibration.model_id,
        "supported_log10_far": round(calibration.supported_log10_far, 1),
        "llr_slope": round(calibration.llr_slope, 4),
        "llr_offset": round(calibration.llr_offset, 4),
        "least_part_scores": {
            "halves": calibration.part_limits.halves,
            "thirds": calibration.part_limits.thirds,
        },
        "provenance": provenance,
        "nodes": [_written(node) for node in calibration.nodes],
    }
    if calibration.highpass_300hz:
        value["narrow"] = [_written(node) for node in calibration.highpass_300hz]
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _written(node: Node) -> dict[str, float]:
    return {
        "speech_s": node.speech_s,
        "snr_db": node.snr_db,
        "mean": round(node.tail.z.mean, 4),
        "deviation": round(node.tail.z.deviation, 4),
    }


def _node(value: dict[str, Any]) -> Node:
    numbers = {name: float(value[name]) for name in ("speech_s", "snr_db", "mean", "deviation")}
    if not all(math.isfinite(number) for number in numbers.values()):
        raise ValueError("a number is not finite")
    tail = Tail(z=Normal(mean=numbers["mean"], deviation=numbers["deviation"]))
    return Node(speech_s=numbers["speech_s"], snr_db=numbers["snr_db"], tail=tail)
