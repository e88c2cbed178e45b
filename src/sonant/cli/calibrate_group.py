"""`sonant calibrate ...`: what scores and risks mean on your own lines."""

from __future__ import annotations

from sonant.cli.calibrate import calibrate as scores
from sonant.cli.calibrate_spoofing import spoofing
from sonant.cli.default_group import DefaultGroup

calibrate = DefaultGroup(
    "calibrate",
    default="scores",
    help="""Measure what scores mean among your own callers.

    `spoofing` measures what voice spoofing risks mean. Without a name it is `scores`: `sonant calibrate
    --domain ID` is `sonant calibrate scores --domain ID`.
    """,
)
calibrate.add_command(scores, "scores")
calibrate.add_command(spoofing)
