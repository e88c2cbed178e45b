"""Measure which party is enrolled from conversations on one channel: requests made of single people's speech.

People are split into customers and agents. A request is a customer's calls, each with an agent drawn from a
pool, so that agents recur by chance as in a contact centre. The customer calls from one line or several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.evaluation.channels import parse
from sonant.evaluation.conversations import Conversation, PhraseReader, converse
from sonant.evaluation.cutting import SegmentedRecording
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.calibration.file import shipped_calibration
from sonant.voice.models import Models
from sonant.voice.models.embedding import embed
from sonant.voice.parties import Party, find_parties
from sonant.voice.party_selection import AgentVoice, select_recurring
from sonant.voice.speech import SpeechDetector

CUSTOMER, AGENT = 0, 1
LINES = ("g711", "gsm+g711", "narrow+g711-a", "pink:20+g711")
"""Lines of customers; agents have the first."""
SHARES = (0.2, 0.5)
"""The customer's share of the speech of a call, drawn evenly."""
LEVEL_DB = 6.0
"""Most that one party is louder than the other."""
PURE_SHARE = 0.8
"""Share of the customer in the selected speech from which a request is right; under half it is wrong."""
LEAST_S = 15.0
"""Speech of a call that is worth making."""
AGENT_SPEECH_S = 20.0
"""Speech of a known agent's recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyTrial:
    """The outcome of one request."""

    recordings: int
    agents: int
    """Different agents in them."""
    customer_share: float | None
    """Share of the customer in the selected speech, 0..1; None where the request was refused."""

    @property
    def outcome(self) -> str:
        """One of: right, mixed, wrong, refused."""
        if self.customer_share is None:
            return "refused"
        return (
            "right"
            if self.customer_share >= PURE_SHARE
            else "mixed"
            if self.customer_share >= 0.5
            else "wrong"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyTrials:
    """Outcomes of requests, counted."""

    name: str
    requests: int
    outcomes: Mapping[str, int]

    @classmethod
    def of(cls, name: str, trials: Sequence[PartyTrial]) -> PartyTrials:
        counts = Counter(trial.outcome for trial in trials)
        kinds = ("right", "mixed", "wrong", "refused")
        return cls(name=name, requests=len(trials), outcomes={kind: counts[kind] for kind in kinds})


class RequestMaker:
    """Makes requests of people's recordings."""

    def __init__(
        self, people: Mapping[str, Sequence[SegmentedRecording]], *, agents: int, call_s: float
    ) -> None:
        """The `agents` people with most speech are agents. Raises SetupError when no customer is left."""
        ranked = sorted(people, key=lambda name: -sum(one.net_samples for one in people[name]))
        if not 1 <= agents < len(ranked):
            raise SetupError(f"{len(ranked)} people cannot be {agents} agents and at least one customer")
        self._people, self._call_s = people, call_s
        self._agents, self._customers = ranked[:agents], ranked[agents:]

    def make(self, count: int, rng: np.random.Generator) -> tuple[list[Conversation], list[str]]:
        """Make the calls of one customer, `count` at most, with the agents' names; nothing is said twice."""
        customer = self._customers[int(rng.integers(len(self._customers)))]
        names = {customer, *self._agents}
        readers = {name: PhraseReader(self._people[name]) for name in names}
        own_s = readers[customer].left_s / count
        usual = int(rng.integers(len(LINES)))
        calls, agents = [], []
        for _ in range(count):
            agent = self._agents[int(rng.integers(len(self._agents)))]
            share = float(rng.uniform(*SHARES))
            speech_s = min(self._call_s, own_s / share, readers[agent].left_s / (1 - share))
            line = usual if rng.random() < 0.5 else int(rng.integers(len(LINES)))
            if speech_s < LEAST_S:
                continue
            calls.append(
                converse(
                    [readers[customer], readers[agent]],
                    speech_s=speech_s,
                    share=share,
                    rng=rng,
                    lines=[parse(LINES[line]), parse(LINES[0])],
                    level_db=float(rng.uniform(-LEVEL_DB, LEVEL_DB)),
                )
            )
            agents.append(agent)
        return calls, agents

    def voice(self, agent: str, models: Models) -> AgentVoice:
        """Embed the first speech of an agent, over the agents' line."""
        spoken = PhraseReader(self._people[agent]).read(round(AGENT_SPEECH_S * RATE_HZ))
        heard = parse(LINES[0]).apply(spoken, seed=(0,))
        return AgentVoice(vector=embed(heard, models).vector, speech_s=len(heard) / RATE_HZ)


def measure_parties(
    maker: RequestMaker,
    models: Models,
    *,
    requests: int,
    recordings: tuple[int, int],
    agents_known: bool,
    seed: int,
    progress: Callable[[int], None],
) -> list[PartyTrial]:
    """Make requests with `recordings` calls (least, most) each, and select the customer in each."""
    trials = []
    for number in range(requests):
        rng = np.random.default_rng([seed, number])
        calls, agents = maker.make(int(rng.integers(recordings[0], recordings[1] + 1)), rng)
        if calls:
            known = [maker.voice(agent, models) for agent in sorted(set(agents))] if agents_known else []
            trials.append(_trial(calls, len(set(agents)), known, models))
        progress(number + 1)
    return trials


def _trial(
    calls: Sequence[Conversation], agents: int, known: Sequence[AgentVoice], models: Models
) -> PartyTrial:
    found, truths = [], []
    for call in calls:
        speech, customer = _speech(call, models)
        found.append(find_parties(speech, models))
        truths.append(customer)
    selection = select_recurring(found, known, shipped_calibration())
    own = said = 0.0
    for parties, customer, chosen in zip(found, truths, selection.chosen, strict=True):
        if chosen is not None:
            own += _spoken(parties[chosen], customer)
            said += parties[chosen].speech_s * RATE_HZ
    return PartyTrial(recordings=len(calls), agents=agents, customer_share=own / said if said else None)


def _speech(call: Conversation, models: Models) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Remove the pauses; return the speech and where the customer speaks alone in it."""
    detector = SpeechDetector(models)
    spans = [*detector.push(call.samples), *detector.finish()]
    kept = np.zeros(len(call.samples), np.bool_)
    speaks = np.zeros((2, len(call.samples)), np.bool_)
    for start, end in spans:
        kept[start:end] = True
    for party, start, end in call.turns:
        speaks[party, start:end] = True
    return call.samples[kept], (speaks[CUSTOMER] & ~speaks[AGENT])[kept]


def _spoken(party: Party, customer: NDArray[np.bool_]) -> float:
    return float(sum(int(customer[start:end].sum()) for start, end in party.spans))
