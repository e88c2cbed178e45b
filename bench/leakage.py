#!/usr/bin/env python3
"""What answers about a speaker give away: `python bench/leakage.py [--size SIZE] [--live] [--speech FOLDER]`.

Attacks a service as a user who may neither export a speaker nor read exact scores: least squares on the
answers to strangers' voices, and an adaptive search that chooses each probe by the answers before. For each
source of answers prints the cosine of the recovered template and the voiceprint, on average of the attacked
speakers and at most, and how many speakers whose voice the attacker has not would accept it at 90. `--live`
attacks a served Sonant with recordings over HTTP; without it the operations are called directly, and the
attacker may send any embedding.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

import leakage_live
from leakage_attack import Belief, Edges, Floats, Interval, choose_probe, least_squares, unit
from leakage_service import QUALITY, AttackedService, attacked
from leakage_voices import Population, load_population
from report import SPEECH, Size, add_size
from sonant.demo.speech import fetch_voices
from sonant.errors import ProbeBudgetUsed, SpeakerLocked
from sonant.jobs.risk_limits import room
from sonant.settings import Scores
from sonant.voice import load_voice_model
from sonant.voice.calibration.model import log10_far_of
from sonant.voice.disclosure import RISK_BANDS, SCORE_BANDS

#: No limit of the number of answers, and bands: what the bands alone are good for.
UNLIMITED = Scores(probes_per_speaker=0, probes_per_fraudster=0, probes_per_account=0, lock_rejects=0)
#: As it would be if thresholds could be chosen freely.
ANY_THRESHOLD = Scores(probes_per_speaker=0, probes_per_account=0, lock_rejects=0, least_threshold=0)
ACCEPTED = 90
#: Numbers of requests after which the template is looked at.
STEPS = (10, 20, 30, 64, 128, 330)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where answers come from."""

    name: str
    scores: Scores
    ask: Callable[[AttackedService, str, Floats, Edges], Interval]
    edges: str
    """Where answers change: `exact`, `points`, `bands`, `risks`, or `chosen` by the attacker."""
    attackers: int = 1
    """Users who take turns, each until their own budget is used up."""


def similarity_told(service: AttackedService, speaker_id: str, probe: Floats, edges: Edges) -> Interval:
    """Ask for an exact similarity, as any user could before."""
    told = service.compare(speaker_id, probe, exact=True)["Similarity"]
    return Interval(low=told - 5e-5, high=told + 5e-5)


def score_told(service: AttackedService, speaker_id: str, probe: Floats, edges: Edges) -> Interval:
    """Ask for an exact score, as any user could before."""
    told = service.compare(speaker_id, probe, exact=True)["Score"]
    return Interval(low=edges.at(told), high=edges.at(told + 1) if told < 100 else math.inf)


def band_told(service: AttackedService, speaker_id: str, probe: Floats, edges: Edges) -> Interval:
    """Ask for a comparison, as a user without the right to exact scores can."""
    told = service.compare(speaker_id, probe)["Score"]
    above = [band for band in SCORE_BANDS if band > told]
    return Interval(low=edges.at(told), high=edges.at(above[0]) if above else math.inf)


class Decider:
    """Asks for a decision at the threshold that tells most."""

    def __init__(self) -> None:
        self.expected = 0.0
        """The similarity that the attacker expects."""

    def __call__(self, service: AttackedService, speaker_id: str, probe: Floats, edges: Edges) -> Interval:
        threshold = max(edges.nearest(self.expected), service.store.settings.scores.least_threshold)
        accepted = service.decide(speaker_id, probe, threshold)["Decision"] == "ACCEPT"
        line = edges.at(threshold)
        return Interval(low=line, high=math.inf) if accepted else Interval(low=-math.inf, high=line)


class RiskAsker:
    """Asks how likely a caller is the only fraudster on a list, and counts what the budget counts.

    A risk that may no longer be told is told as 0. The attacker knows the limits, and learns nothing from a 0
    that may stand for one.
    """

    def __init__(self) -> None:
        self._service: AttackedService | None = None
        self._told: dict[int, int] = {}
        self._told_to_all: dict[int, int] = {}

    def __call__(self, service: AttackedService, speaker_id: str, probe: Floats, edges: Edges) -> Interval:
        if service is not self._service:
            self._service, self._told, self._told_to_all = service, {}, {}
        scores = service.store.settings.scores
        for budget, told_so_far in (
            (scores.probes_per_fraudster, self._told),
            (scores.probes_per_account, self._told_to_all),
        ):
            if budget and any(count >= room(budget, band) for band, count in told_so_far.items()):
                raise ProbeBudgetUsed(budget, scores.probes_days, service.clock())
        told = service.risk(speaker_id, probe)
        if 0 < told < RISK_BANDS[-1]:
            for told_so_far in (self._told, self._told_to_all):
                told_so_far[told] = told_so_far.get(told, 0) + 1
        lines = [-math.inf, *edges.of_risks(), math.inf]
        band = RISK_BANDS.index(told)
        return Interval(low=lines[band], high=lines[band + 1])

    def next_attacker(self) -> None:
        """Let another user go on, who has a budget of its own."""
        self._told = {}


DECIDER, RISK_ASKER = Decider(), RiskAsker()
SOURCES = (
    Source(name="exact similarity", scores=UNLIMITED, ask=similarity_told, edges="exact"),
    Source(name="exact score", scores=UNLIMITED, ask=score_told, edges="points"),
    Source(name="bands, no limits", scores=UNLIMITED, ask=band_told, edges="bands"),
    Source(name="decisions at any threshold", scores=ANY_THRESHOLD, ask=DECIDER, edges="chosen"),
    Source(name="decisions from 80 on, no limits", scores=UNLIMITED, ask=DECIDER, edges="chosen"),
    Source(name="bands, default limits", scores=Scores(), ask=band_told, edges="bands"),
    Source(name="decisions from 80 on, default limits", scores=Scores(), ask=DECIDER, edges="chosen"),
    Source(
        name="bands, ten users, default limits", scores=Scores(), ask=band_told, edges="bands", attackers=10
    ),
    Source(name="risks, no limits", scores=UNLIMITED, ask=RISK_ASKER, edges="risks"),
    Source(name="risks, default limits", scores=Scores(), ask=RISK_ASKER, edges="risks"),
    Source(
        name="risks, ten users, default limits", scores=Scores(), ask=RISK_ASKER, edges="risks", attackers=10
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The outcome of one attack on one speaker."""

    requests: int
    answers: int
    """Requests that were answered."""
    cosine: float
    """Of the recovered template and the voiceprint."""
    accepted_by: int
    """Speakers whose voice the attacker does not have, and who would accept the template as a caller."""


def main() -> int:
    parser = argparse.ArgumentParser(description="What answers about a speaker give away.")
    add_size(parser)
    parser.add_argument("--live", action="store_true", help="attack a served Sonant with recordings")
    parser.add_argument(
        "--speech",
        type=Path,
        help="recordings of the attacker, a folder with sub-folders or files of one speaker each [those of "
        "the other telephone voices]",
    )
    parser.add_argument("--only", default="", help="sources of answers whose names contain this")
    parser.add_argument("--requests", type=int, help="of each attack [1000, quick 330, tiny 40]")
    parser.add_argument("--victims", type=int, help="speakers that are attacked [all, quick 3, tiny 1]")
    arguments = parser.parse_args()
    size: Size = arguments.size
    requests = arguments.requests or size.pick(1000, 330, 40)
    model = load_voice_model()
    population = load_population(model, fetch_voices(SPEECH, progress=print), arguments.speech, size)
    victims = list(population.enrolled)[: arguments.victims or size.pick(99, 3, 1)]
    if arguments.live:
        leakage_live.attack(model, population, victims[0], requests)
        return 0
    print(f"{len(victims)} of {len(population.enrolled)} enrolled speakers, {requests} requests each")
    print(
        f"{'answers':36} {'attack':14} {'requests':>8} {'answered':>8} {'cosine':>7} {'at most':>7} "
        f"{'accepted by':>11}"
    )
    guess = [
        _recovered(population, victim, Belief.of_strangers(population.strangers_to(victim)).template, 0, 0)
        for victim in victims
    ]
    _show("none: the mean of strangers", "", guess)
    for source in (one for one in SOURCES if arguments.only in one.name):
        for name, attack in (("least squares", attack_at_once), ("adaptive", attack_adaptively)):
            if name == "least squares" and source.edges == "chosen":
                continue
            steps = [count for count in STEPS if count < requests] + [requests]
            found = [attack_one(population, victim, source, attack, steps) for victim in victims]
            for step, _ in enumerate(steps):
                _show(source.name, name, [one[step] for one in found])
    return 0


Attack = Callable[[AttackedService, str, Population, str, Source, Edges, Sequence[int]], list[Recovered]]


def attack_one(
    population: Population, victim: str, source: Source, attack: Attack, steps: Sequence[int]
) -> list[Recovered]:
    """Attack one speaker of a fresh service; what was recovered after each number of requests."""
    with tempfile.TemporaryDirectory(prefix="sonant-leakage-") as folder:
        model_id = population.model.model_id
        with attacked(Path(folder), model_id, population.enrolled, source.scores) as service:
            edges = Edges(calibration=population.calibration, quality=QUALITY)
            return attack(service, victim, population, victim, source, edges, steps)


def attack_at_once(
    service: AttackedService,
    speaker_id: str,
    population: Population,
    victim: str,
    source: Source,
    edges: Edges,
    steps: Sequence[int],
) -> list[Recovered]:
    """Ask about mixtures of strangers' voices, and solve for the voiceprint by least squares."""
    random = np.random.default_rng(1)
    pool = population.strangers_to(victim)
    asker = _Asker(service, speaker_id, source, edges)
    probes, answers, found = [], [], []
    for number in range(1, steps[-1] + 1):
        probe = unit(random.normal(size=len(pool)) @ (pool - pool.mean(axis=0)))
        answer = asker.ask(probe)
        if answer is not None:
            probes.append(probe)
            answers.append(answer)
        if number in steps:
            template = Belief.of_strangers(pool).template
            if probes:
                template = least_squares(pool, np.stack(probes), answers)
            found.append(_recovered(population, victim, template, number, len(answers)))
    return found


def attack_adaptively(
    service: AttackedService,
    speaker_id: str,
    population: Population,
    victim: str,
    source: Source,
    edges: Edges,
    steps: Sequence[int],
) -> list[Recovered]:
    """Choose each probe so that its answer is expected to tell most, given the answers so far."""
    random = np.random.default_rng(2)
    belief = Belief.of_strangers(population.strangers_to(victim))
    known = {
        "points": edges.of(range(1, 101)),
        "bands": edges.of(SCORE_BANDS[1:]),
        "risks": edges.of_risks(),
    }.get(source.edges)
    asker = _Asker(service, speaker_id, source, edges)
    answered, found = 0, []
    for number in range(1, steps[-1] + 1):
        if not asker.stopped:
            probe = choose_probe(belief, known, random)
            DECIDER.expected = float(probe @ belief.mean)
            answer = asker.ask(probe)
            if answer is not None:
                belief.learn(probe, answer)
                answered += 1
        if number in steps:
            found.append(_recovered(population, victim, belief.template, number, answered))
    return found


class _Asker:
    """Asks until the service refuses."""

    def __init__(self, service: AttackedService, speaker_id: str, source: Source, edges: Edges) -> None:
        self._service, self._speaker_id, self._source, self._edges = service, speaker_id, source, edges
        self.stopped = False
        """Whether the last request was refused, and no later one can be answered."""

    def ask(self, probe: Floats) -> Interval | None:
        if self.stopped:
            return None
        while True:
            try:
                return self._source.ask(self._service, self._speaker_id, probe, self._edges)
            except SpeakerLocked:  # it ends by itself within a day, and waiting is free here
                self._service.clock.ahead += timedelta(hours=1)
            except ProbeBudgetUsed:
                if self._service.attacker == self._source.attackers:
                    self.stopped = True
                    return None
                self._service.attacker += 1
                RISK_ASKER.next_attacker()


def _recovered(
    population: Population, victim: str, template: Floats, requests: int, answers: int
) -> Recovered:
    """Hold the template against the enrolled speakers."""
    tail = population.calibration.tail_for(QUALITY)
    line = tail.similarity_at(log10_far_of(ACCEPTED))
    cosines: Mapping[str, float] = {
        name: float(template @ sample.vector)
        for name, sample in population.enrolled.items()
        if name == victim or name not in population.known
    }
    return Recovered(
        requests=requests,
        answers=answers,
        cosine=cosines[victim],
        accepted_by=sum(cosine >= line for cosine in cosines.values()),
    )


def _show(source: str, attack: str, found: Sequence[Recovered]) -> None:
    answers = np.mean([one.answers for one in found])
    cosines = [one.cosine for one in found]
    accepted = np.mean([one.accepted_by for one in found])
    print(
        f"{source:36} {attack:14} {found[0].requests:8} {answers:8.0f} {np.mean(cosines):7.3f} "
        f"{max(cosines):7.3f} {accepted:11.2f}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
