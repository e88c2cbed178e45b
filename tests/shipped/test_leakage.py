"""The attack on voiceprints by answers: it works on exact answers, and not on what the service tells."""

from __future__ import annotations

import sys
from functools import cache

import pytest
from smoke import REPOSITORY, ran, runs
from voices_testbed import strangers

sys.path.append(str(REPOSITORY / "bench"))

import leakage
from leakage_service import QUALITY
from leakage_voices import Piece, Population
from sonant.voice import VoiceSample, load_voice_model
from sonant.voice.calibration.file import shipped_calibration

REQUESTS = 100
EXACT = leakage.SOURCES[0]
LIMITED = [one for one in leakage.SOURCES if "default limits" in one.name]


@cache
def population() -> Population:
    """Made-up voices, as far apart as people's; two are enrolled, and the attacker has the others."""
    model = load_voice_model()
    voices = strangers(120, seed=5, spread=0.25)
    enrolled = {
        name: VoiceSample(model_id=model.model_id, vector=voice, quality=QUALITY)
        for name, voice in zip(("anna", "bert"), voices, strict=False)
    }
    pieces = [
        Piece(speaker=f"stranger-{number}", samples=voice, vector=voice.astype(float))
        for number, voice in enumerate(voices[2:])
    ]
    return Population(
        model=model,
        calibration=shipped_calibration(),
        enrolled=enrolled,
        recordings={},
        pieces=pieces,
    )


@pytest.mark.parametrize("attack", [leakage.attack_at_once, leakage.attack_adaptively])
def test_exact_answers_give_the_voiceprint_away(attack: leakage.Attack) -> None:
    (found,) = leakage.attack_one(population(), "anna", EXACT, attack, [REQUESTS])
    assert found.cosine > 0.95
    assert (found.answers, found.accepted_by) == (REQUESTS, 1)


@pytest.mark.parametrize("source", LIMITED, ids=lambda source: source.name)
@pytest.mark.parametrize(
    "attack", [pytest.param(leakage.attack_at_once, marks=pytest.mark.slow), leakage.attack_adaptively]
)
def test_what_anybody_is_told_gives_no_voiceprint_away(
    source: leakage.Source, attack: leakage.Attack
) -> None:
    (found,) = leakage.attack_one(population(), "anna", source, attack, [REQUESTS])
    if source.edges != "risks":  # of which those of honest calls cost nothing
        # 30 that do not match, 60 of all users together, and few that do
        assert found.answers <= (35 if source.attackers == 1 else 70)
    assert found.cosine < 0.5
    assert found.accepted_by == 0


@pytest.mark.usefixtures("voices")
@runs("bench/leakage.py")
def test_leakage_script_attacks_operations_and_a_served_sonant() -> None:
    assert "default limits" in ran("bench/leakage.py", "--size", "tiny", "--only", "default limits")
    printed = ran("bench/leakage.py", "--size", "tiny", "--live", "--requests", 150)
    assert "ThrottlingException: You have compared 30 different voices" in printed
    assert ", accepted at 90" not in printed
