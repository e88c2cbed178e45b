"""Prepare recordings over simulated lines, and train, merge and calibrate the small spoofing network."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from light_graph import LIMIT, Light, light_detector
from sonant.evaluation.channels import parse
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models, load_models
from sonant.voice.speech import analyze
from sonant.voice.spoofing.features import features
from sonant.voice.spoofing.models import SpoofingCalibration
from sonant.voice.spoofing.synthetic_speech import network_input
from sonant.voice.spoofing.tail import fit_tail
from spoofing_corpora import Item

MAX_S = 10.0
TREES = 100
GAMMA_SCALE = 3.0
NETWORK_SHARE = 0.05
"""Share of genuine recordings that the large network analyzes, too."""
NETWORK_RECORDINGS = 80
"""Recordings of each side that the large network's weight is fitted to, at most."""
_LONGEST_FIT_SHARE = 0.15

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Recordings of one corpus, one family of generators or one vocoder."""

    name: str
    features: Array
    people: NDArray[np.str_]
    """Who speaks in a genuine recording; the file of a synthetic one."""
    items: NDArray[np.intp]
    """Number of the item that the recording was made of."""


# --- recordings over telephone lines --------------------------------------------------------------------


def prepared(folder: Path, name: str, items: Sequence[Item]) -> Source:
    """Make a source's recordings and their features, or read those that an earlier run has stored."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        found, numbers = [], []
        for number, item in enumerate(items):
            speech = received(item)
            if speech is not None:
                found.append(features(speech))
                numbers.append(number)
        people = np.array([items[number].person for number in numbers])
        np.savez(path, features=np.array(found, np.float32), people=people, items=np.array(numbers, np.intp))
        print(f"{name}: {len(numbers)} recordings of {len(items)}", flush=True)
    with np.load(path) as data:
        return Source(name=name, features=data["features"], people=data["people"], items=data["items"])


def received(item: Item) -> Array | None:
    """Send an item over a random line; its speech of 3-10 s without pauses, None if there is less.

    The line follows from the key and the variant: a copy of a recording goes over the line of the original.
    """
    rng = np.random.default_rng([zlib.crc32(item.key.encode()), item.variant])
    sound = item.load()
    if len(sound) < 3 * RATE_HZ:
        return None
    level = 0.1 * 10 ** (rng.uniform(-12, 8) / 20)
    sound = np.clip(sound * np.float32(level / (np.sqrt(np.mean(sound**2)) + 1e-9)), -1, 1)
    line = parse(random_line(rng)).apply(sound, seed=[item.variant])
    speech = analyze(line, _models()).speech
    wanted = int(rng.uniform(4, MAX_S) * RATE_HZ)
    if len(speech) < 3 * RATE_HZ:
        return None
    start = int(rng.integers(0, max(1, len(speech) - wanted + 1)))
    return speech[start : start + wanted]


def random_line(rng: np.random.Generator) -> str:
    """Choose room, noise, band, codec and losses of a line."""
    stages = []
    if rng.random() < 0.2:
        stages.append(f"reverb:{rng.uniform(0.1, 0.5):.2f}")
    noise = rng.random()
    if noise < 0.3:
        stages.append(f"pink:{rng.uniform(10, 35):.1f}")
    elif noise < 0.55:
        stages.append(f"white:{rng.uniform(12, 40):.1f}")
    if rng.random() < 0.3:
        stages.append(f"tilt:{rng.uniform(-3, 3):.1f}")
    band = rng.random()
    stages += ["narrow"] if band < 0.3 else ["amr-band"] if band < 0.5 else []
    stages.append(str(rng.choice(["g711", "g711-a", "gsm", "clean"], p=[0.35, 0.25, 0.25, 0.15])))
    if rng.random() < 0.1:
        stages.append(f"loss:{rng.uniform(0.5, 4):.1f}")
    return "+".join(stages)


@cache
def _models() -> Models:
    return load_models()


# --- training -------------------------------------------------------------------------------------------


def train(genuine: Sequence[Source], fakes: Sequence[Source], seed: int = 0) -> Light:
    """Train extremely randomized trees (Geurts et al. 2006) and a support vector machine.

    The trees err less on most families that they did not hear, the machine misses fewer at low rates of false
    alarms. Every corpus of genuine speech has the weight of the square root of its number of people, every
    family of synthetic speech that of its number of recordings; both sides weigh the same.
    """
    genuine, fakes = ([one for one in side if len(one.features)] for side in (genuine, fakes))
    real = np.concatenate([one.features for one in genuine])
    mean, deviation = real.mean(axis=0), real.std(axis=0) + np.float32(1e-6)
    sides = []
    for side, share in ((genuine, _corpus_share), (fakes, _family_share)):
        weights = np.concatenate([np.full(len(one.features), share(one) / len(one.features)) for one in side])
        sides.append(weights / weights.sum())
    weight = np.concatenate(sides)
    truth = np.repeat([False, True], [len(one) for one in sides])
    found = np.concatenate([real, *(one.features for one in fakes)])
    scaled = np.clip((found - mean) / deviation, -LIMIT, LIMIT).astype(np.float32)
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, random_state=seed)
    forest.fit(scaled, truth, sample_weight=weight / weight.mean())
    gamma = 1 / (GAMMA_SCALE * len(mean))
    machine = SVC(C=1.0, gamma=gamma, cache_size=500).fit(scaled, truth, sample_weight=weight / weight.mean())
    return Light(
        mean=mean,
        deviation=deviation,
        trees=[tree.tree_ for tree in forest.estimators_],
        vectors=machine.support_vectors_.astype(np.float32),
        coefficients=machine.dual_coef_[0].astype(np.float32),
        intercept=float(machine.intercept_[0]),
        gamma=gamma,
    )


def _corpus_share(source: Source) -> float:
    return float(np.sqrt(len(np.unique(source.people))))


def _family_share(source: Source) -> float:
    return float(np.sqrt(len(source.features)))


def logits(light: Light, found: Array) -> Array:
    """Compute logits with the graph that is shipped."""
    session = onnxruntime.InferenceSession(light_detector(light))
    (scores,) = session.run(["logits"], {"features": found})
    return np.asarray(scores, np.float32)


# --- calibration ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Logits of recordings by a network that knew neither their corpus nor their family."""

    source: Source
    logits: Array


def calibrate(
    genuine: Sequence[Scored],
    fakes: Sequence[Scored],
    items: Mapping[str, Sequence[Item]],
    network: onnxruntime.InferenceSession,
) -> SpoofingCalibration:
    """Fit the weight of the large network where the small one is in doubt, and the tails of genuine scores.

    Corpora count as in training. The weight is the ratio of both networks' coefficients in a logistic
    regression; where it is not above 0, the large network knows nothing that the small one does not.
    """
    weights = corpus_weights(genuine)
    real = np.concatenate([one.logits for one in genuine])
    alone = fit_tail(real, weights)
    start = alone.score_of(NETWORK_SHARE)
    sample_from = alone.score_of(0.1) - (alone.tail - alone.middle) * _LONGEST_FIT_SHARE
    sides = [list(_doubtful(side, items, sample_from, network)) for side in (genuine, fakes)]
    found = np.array([pair for side in sides for pair in side])
    truth = np.repeat([0, 1], [len(side) for side in sides])
    model = LogisticRegression(C=1e6, class_weight="balanced").fit(found, truth)
    own, other = model.coef_[0]
    middle = float(np.median([odds for _, odds in sides[0]]))
    weight = max(0.0, float(other / own)) if own > 0 else 0.0
    print(f"large network: {len(sides[0])} genuine, {len(sides[1])} synthetic, weight {weight:.4f}")
    bound = alone.score_of(0.01) - start
    calibration = SpoofingCalibration(
        network_from=start,
        network_weight=weight,
        network_middle=middle,
        network_bound=bound,
        alone=alone,
        together=alone,
    )
    if weight == 0:
        return calibration
    odds = {}
    for one in genuine:
        for row in np.flatnonzero(one.logits >= start):
            speech = received(items[one.source.name][one.source.items[row]])
            assert speech is not None
            odds[one.source.name, int(row)] = _odds(speech, network)
    merged = [
        calibration.logit(float(logit), odds.get((one.source.name, row)))
        for one in genuine
        for row, logit in enumerate(one.logits)
    ]
    return SpoofingCalibration(
        network_from=start,
        network_weight=weight,
        network_middle=middle,
        network_bound=bound,
        alone=alone,
        together=fit_tail(np.array(merged), weights),
    )


def corpus_weights(genuine: Sequence[Scored]) -> NDArray[np.float64]:
    """Compute the weight of each recording: corpora count as the square root of their number of people."""
    return np.concatenate(
        [np.full(len(one.logits), _corpus_share(one.source) / len(one.logits)) for one in genuine]
    )


def _doubtful(
    side: Sequence[Scored],
    items: Mapping[str, Sequence[Item]],
    start: float,
    network: onnxruntime.InferenceSession,
) -> Iterator[tuple[float, float]]:
    """Yield both networks' scores of recordings that the small one is in doubt about."""
    rows = [(one, int(row)) for one in side for row in np.flatnonzero(one.logits >= start)]
    for place in np.random.default_rng(1).permutation(len(rows))[:NETWORK_RECORDINGS]:
        one, row = rows[int(place)]
        speech = received(items[one.source.name][one.source.items[row]])
        assert speech is not None
        yield float(one.logits[row]), _odds(speech, network)


def _odds(speech: Array, network: onnxruntime.InferenceSession) -> float:
    (found,) = network.run(None, {"samples": network_input(speech, 1)})
    return float(found[0, 0] - found[0, 1])
