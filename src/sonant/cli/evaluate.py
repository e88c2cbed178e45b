"""`sonant evaluate ...`: measurements of the voice pipeline's errors."""

from __future__ import annotations

from sonant.cli.default_group import DefaultGroup
from sonant.cli.evaluate_fraudsters import fraudsters
from sonant.cli.evaluate_parties import parties
from sonant.cli.evaluate_robustness import robustness
from sonant.cli.evaluate_second_voice import second_voice
from sonant.cli.evaluate_spoofing import spoofing
from sonant.cli.evaluate_verification import verification

evaluate = DefaultGroup(
    "evaluate",
    default="verification",
    commands=[verification, robustness, fraudsters, second_voice, parties, spoofing],
    help="""Measure error rates of the voice pipeline.

    Without the name of a measurement it is `verification`: `sonant evaluate DIR` is `sonant evaluate
    verification DIR`.
    """,
)
