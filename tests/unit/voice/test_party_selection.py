"""Which voice is selected among the parties of a request's recordings, and when none is."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.calibration.model import Calibration, Node, Normal, Tail
from sonant.voice.parties import Party
from sonant.voice.party_selection import AgentVoice, select_recurring

#: The likelihood ratio is ten times Fisher's z of the similarity, less 5: 3.0 is reached at 0.66.
CALIBRATION = Calibration(
    model_id="test",
    nodes=(Node(speech_s=10.0, snr_db=25.0, tail=Tail(z=Normal(mean=0.0, deviation=0.1))),),
    llr_slope=1.0,
    llr_offset=-5.0,
)
ADA, BO, CY, DEE, EVE, FAY, GUS = np.eye(8, dtype=np.float32)[:7]


def party(voice, seconds=20.0):
    return Party(vector=voice, spans=((0, round(seconds * RATE_HZ)),))


def like(voice, other, similarity):
    """A voice of this similarity to one, made with some of another."""
    mixed = similarity * voice + np.sqrt(1 - similarity**2) * other
    return np.asarray(mixed, np.float32)


def select(*recordings, agents=()):
    return select_recurring(
        [[party(voice) for voice in one] for one in recordings],
        [AgentVoice(vector=voice, speech_s=30.0) for voice in agents],
        CALIBRATION,
    )


@pytest.mark.parametrize(
    ("recordings", "chosen"),
    [
        pytest.param([(ADA, BO), (ADA, CY)], (0, 0), id="two recordings"),
        pytest.param([(BO, ADA), (ADA, CY), (DEE, ADA)], (1, 0, 1), id="whoever speaks more"),
        pytest.param([(ADA,), (CY, ADA), (ADA, BO)], (None, 1, 0), id="not separated in one recording"),
        pytest.param([(ADA, BO), (ADA, BO), (ADA, CY)], (0, 0, 0), id="an agent in two of three"),
        pytest.param([(ADA, BO), (ADA, CY), (DEE, EVE)], (0, 0, None), id="one of other people"),
        pytest.param([(ADA, BO), (ADA, CY), ()], (0, 0, None), id="one without speech"),
    ],
)
def test_voice_of_most_recordings_is_selected(recordings, chosen):
    found = select(*recordings)
    assert found.chosen == chosen
    assert found.selected


@pytest.mark.parametrize(
    ("recordings", "reason"),
    [
        pytest.param([(ADA, BO)], "one recording cannot show", id="one recording"),
        pytest.param(
            [(ADA, BO), (ADA, BO)], "two voices recur, one in 2 and another in 2 of 2", id="same agent"
        ),
        pytest.param([(ADA, BO), (CY, DEE)], "no party is surely the same", id="nobody recurs"),
        pytest.param([(ADA, BO), ()], "in 1 of 2 recordings two parties", id="one with speech"),
        pytest.param([(ADA,), (ADA,)], "in 0 of 2 recordings two parties", id="not separated anywhere"),
        pytest.param(
            [(ADA, BO), (ADA, CY), (DEE, EVE), (FAY, GUS)], "more than half", id="in half of them only"
        ),
        pytest.param([(), ()], "in 0 of 2 recordings", id="nobody speaks"),
    ],
)
def test_ambiguous_request_selects_nobody_and_says_why(recordings, reason):
    found = select(*recordings)
    assert not found.selected
    assert set(found.chosen) == {None}
    assert reason in found.reason


def test_agent_who_may_recur_makes_the_request_ambiguous():
    # 0.60 is below what selects a voice and above what can be ruled out.
    assert select((ADA, BO), (ADA, like(BO, CY, 0.55))).chosen == (0, 0)
    found = select((ADA, BO), (ADA, like(BO, CY, 0.62)))
    assert not found.selected
    assert "two voices recur" in found.reason


def test_recording_whose_parties_are_both_like_the_voice_is_not_used():
    found = select((ADA, BO), (ADA, CY), (like(ADA, DEE, 0.80), like(ADA, EVE, 0.78)))
    assert found.chosen == (0, 0, None)


def test_known_agent_is_not_selected_though_in_every_recording():
    found = select((ADA, BO), (BO, ADA), agents=[BO])
    assert found.chosen == (0, 1)
    assert found.agents == (frozenset([1]), frozenset([0]))


def test_known_agent_leaves_the_other_party_of_a_single_recording():
    assert select((BO, ADA), agents=[BO]).chosen == (1,)


@pytest.mark.parametrize(
    ("recording", "agents"),
    [
        pytest.param((ADA, BO), [CY], id="no party is the agent"),
        pytest.param((BO,), [BO], id="the agent alone"),
        pytest.param((ADA,), [BO], id="somebody alone who is no known agent"),
    ],
)
def test_single_recording_needs_exactly_one_agent_and_one_other_person(recording, agents):
    found = select(recording, agents=agents)
    assert not found.selected
    assert "exactly one must be left" in found.reason


def test_voice_that_may_be_an_agents_is_not_selected():
    found = select((ADA, BO), (ADA, CY), agents=[like(ADA, DEE, 0.62)])
    assert not found.selected
    assert "may be one of the agents'" in found.reason


def test_result_does_not_depend_on_the_order_of_recordings():
    recordings = [(ADA, BO), (CY, ADA), (ADA, BO), (DEE, ADA)]
    forwards, backwards = select(*recordings), select(*recordings[::-1])
    assert forwards.chosen == backwards.chosen[::-1] == (0, 1, 0, 1)
