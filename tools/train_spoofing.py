#!/usr/bin/env python3
"""Train the small spoofing network, calibrate it and the large one, and print their limits.

    python tools/train_spoofing.py --prepared DIR --genuine NAME=FOLDER ... [--fakes FOLDER]
        [--copies NAME ...] [--synthesizers CACHE] [--related FAMILY,FAMILY ...] [--out DIR]

Recordings, whose features are stored in DIR so that a second run only trains:

    genuine        corpora of real people; a person is a sub-folder, or what stands before `-` in the name
                   of a file
    fakes          a folder with a sub-folder for each family of generators
    copies         genuine speech of the named corpora through vocoders (`spoofing_corpora.COPIERS`), over the
                   same lines as the originals
    synthesizers   Debian's, piper and hibari, whose speech `spoofing_speech` makes

All go through the same kinds of telephone lines, or the detector would learn the line. What is printed:

    families       each family, with those `--related` to it, is left out of training in turn, and a fourth
                   of the people: rates of generators and of people that the network never heard
    known          rates of families that were heard, on other files
    corpora        each corpus of genuine speech is left out in turn: false alarms on a source never heard.
                   The calibration is fitted to these scores

Flite and the old espeak are never trained on: `sonant evaluate spoofing` tests with them. Needs
tools/requirements.txt and tools/requirements-spoofing.txt.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from light_graph import light_detector
from sonant.evaluation.attacks import attack_rates
from sonant.voice.spoofing.models import SpoofingCalibration
from sonant.voice.spoofing.tail import GenuineTail, fit_tail
from spoofing_corpora import COPIERS, Item, copied_items, fake_items, genuine_items
from spoofing_speech import SOURCES, speech_items
from spoofing_training import (
    NETWORK_SHARE,
    Array,
    Scored,
    Source,
    calibrate,
    corpus_weights,
    logits,
    prepared,
    train,
)

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"
FOLDS = 4
VARIANTS = 2
"""Lines that a synthetic recording is sent over."""
LEAST_PEOPLE = 20
"""A corpus of fewer has no scale of its own."""
COPIED_STEP = 3
"""One in so many people is copied."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--genuine", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--fakes", type=Path, help="folder with a sub-folder for each family")
    parser.add_argument("--copies", action="append", default=[], metavar="NAME", help="corpus to copy")
    parser.add_argument("--copier", action="append", choices=COPIERS, help="default: all")
    parser.add_argument(
        "--made-from",
        action="append",
        default=[],
        metavar="NAME=FAMILY",
        help="a family of copies of a corpus",
    )
    parser.add_argument("--synthesizers", type=Path, help="cache of Debian's synthesizers")
    parser.add_argument("--synthesizer", action="append", choices=SOURCES, help="default: all")
    parser.add_argument("--related", action="append", default=[], metavar="FAMILY,FAMILY")
    parser.add_argument("--prepare-only", action="store_true")
    parser.add_argument("--keep", action="store_true", help="train nothing: calibrate the network in --out")
    parser.add_argument("--out", type=Path, default=MODELS, help="output folder; default: the shipped models")
    options = parser.parse_args()
    options.prepared.mkdir(parents=True, exist_ok=True)
    genuine, fakes = sources(options)
    items = {**genuine, **fakes}
    found = {name: prepared(options.prepared, name, some) for name, some in items.items()}
    if options.prepare_only:
        return 0
    real = [found[name] for name in genuine if len(found[name].people)]
    synthetic = [found[name] for name in fakes if len(found[name].people)]
    if options.keep:
        return keep_network(options.out, real, synthetic)
    unknown = leave_families_out(real, synthetic, [one.split(",") for one in options.related])
    report_known(real, synthetic)
    unheard = leave_corpora_out(real, synthetic)
    pooled = fit_tail(np.concatenate([one.logits for one in unheard]), corpus_weights(unheard))
    report_corpora(unheard, pooled)
    network = onnxruntime.InferenceSession(str(MODELS / "aasist.onnx"))
    calibration = calibrate(unheard, unknown, items, network)
    (options.out / "spoofing_light.onnx").write_bytes(light_detector(train(real, synthetic)))
    (options.out / "spoofing_light.json").write_text(json.dumps(calibration.document(), indent=2) + "\n")
    print(json.dumps(calibration.document(), indent=2))
    return 0


def keep_network(folder: Path, real: Sequence[Source], synthetic: Sequence[Source]) -> int:
    """Calibrate the network of a folder on all corpora, without the large one, and print its rates."""
    light = onnxruntime.InferenceSession(str(folder / "spoofing_light.onnx"))

    def score(source: Source) -> Array:
        return np.asarray(light.run(["logits"], {"features": source.features})[0], np.float32)

    scored = [Scored(source=one, logits=score(one)) for one in real]
    people = np.concatenate([one.logits for one in scored])
    # Corpora differ: the scale is that of the one whose speech sounds most synthetic to the network.
    tails = [fit_tail(one.logits) for one in scored if len(np.unique(one.source.people)) >= LEAST_PEOPLE]
    tail = max(tails, key=lambda one: one.score_of(0.01))
    report_corpora(scored, tail)
    limit = tail.score_of(0.01)
    print("family                   recordings    EER  missed at 1 %  at 5 %  at 50", flush=True)
    for one in synthetic:
        found = score(one)
        print_rates(one.name, people, found, f"{np.mean(found < limit):7.0%}")
    calibration = SpoofingCalibration(
        network_from=tail.score_of(NETWORK_SHARE),
        network_weight=0.0,
        network_middle=0.0,
        network_bound=limit - tail.score_of(NETWORK_SHARE),
        alone=tail,
        together=tail,
    )
    (folder / "spoofing_light.json").write_text(json.dumps(calibration.document(), indent=2) + "\n")
    return 0


def sources(options: argparse.Namespace) -> tuple[dict[str, list[Item]], dict[str, list[Item]]]:
    """List the recordings of every genuine corpus and of every family."""
    folders = dict(text.split("=", 1) for text in options.genuine)
    made_from = dict(reversed(text.split("=", 1)) for text in options.made_from)
    genuine = {name: genuine_items(name, Path(folder)) for name, folder in folders.items()}
    fakes: dict[str, list[Item]] = {}
    if options.fakes is not None:
        for folder in sorted(path for path in options.fakes.iterdir() if path.is_dir()):
            fakes[folder.name] = fake_items(folder.name, folder, VARIANTS, made_from.get(folder.name))
    for first, copier in enumerate(options.copier or COPIERS if options.copies else ()):
        fakes[f"copy-{copier}"] = [
            item
            for name in options.copies
            for item in copied_items(name, Path(folders[name]), copier, COPIED_STEP, first % COPIED_STEP)
        ]
    if options.synthesizers is not None:
        for name in options.synthesizer or SOURCES:
            fakes[name] = speech_items(name, options.synthesizers, VARIANTS)
    return genuine, fakes


# --- who was heard in training ---------------------------------------------------------------------------


def folded(source: Source, fold: int, *, inside: bool) -> Source:
    """Take the people or files of one fold, or of all others. Copies are in the fold of the person."""
    numbers = np.array([zlib.crc32(str(person).encode()) % FOLDS for person in source.people])
    rows = numbers == fold if inside else numbers != fold
    return replace(
        source, features=source.features[rows], people=source.people[rows], items=source.items[rows]
    )


def groups_of(synthetic: Sequence[Source], related: Sequence[Sequence[str]]) -> list[list[str]]:
    """Divide the families into groups that are left out together."""
    taken = {name for group in related for name in group}
    return [list(group) for group in related] + [[one.name] for one in synthetic if one.name not in taken]


def leave_families_out(
    real: Sequence[Source], synthetic: Sequence[Source], related: Sequence[Sequence[str]]
) -> list[Scored]:
    """Score every family by a network that heard neither it nor a related one, and print its rates.

    They are rates against a fourth of the people, whom that network did not hear either.
    """
    print("family left out          recordings    EER  missed at 1 %  at 5 %", flush=True)
    heard, left = ([folded(one, 0, inside=inside) for one in real] for inside in (False, True))
    scored, people = [], []
    for group in groups_of(synthetic, related):
        light = train(heard, without_people([one for one in synthetic if one.name not in group], left))
        genuine = np.concatenate([logits(light, one.features) for one in left if len(one.people)])
        people.append(genuine)
        for one in (one for one in synthetic if one.name in group):
            scored.append(Scored(source=one, logits=logits(light, one.features)))
            print_rates(one.name, genuine, scored[-1].logits)
    print_rates("all", np.concatenate(people), np.concatenate([one.logits for one in scored]))
    return scored


def report_known(real: Sequence[Source], synthetic: Sequence[Source]) -> None:
    """Print rates of families that were heard, on files and people that were not."""
    print("family heard             recordings    EER  missed at 1 %  at 5 %", flush=True)
    people: list[Array] = []
    families: dict[str, list[Array]] = {one.name: [] for one in synthetic}
    for fold in range(FOLDS):
        light = train(
            [folded(one, fold, inside=False) for one in real],
            [folded(one, fold, inside=False) for one in synthetic],
        )
        left = [folded(one, fold, inside=True) for one in real]
        people += [logits(light, one.features) for one in left if len(one.people)]
        for one in synthetic:
            part = folded(one, fold, inside=True)
            if len(part.people):
                families[one.name].append(logits(light, part.features))
    for name, scores in families.items():
        print_rates(name, np.concatenate(people), np.concatenate(scores))


def leave_corpora_out(real: Sequence[Source], synthetic: Sequence[Source]) -> list[Scored]:
    """Score every genuine corpus by a network that heard nobody of it, nor copies of them."""
    scored = []
    for one in real:
        light = train([other for other in real if other.name != one.name], without_people(synthetic, [one]))
        scored.append(Scored(source=one, logits=logits(light, one.features)))
    return scored


def without_people(synthetic: Sequence[Source], genuine: Sequence[Source]) -> list[Source]:
    """Leave out copies of the speech of these people."""
    people = np.unique(np.concatenate([one.people for one in genuine]))
    found = []
    for fake in synthetic:
        rows = ~np.isin(fake.people, people)
        if rows.any():
            found.append(
                replace(fake, features=fake.features[rows], people=fake.people[rows], items=fake.items[rows])
            )
    return found


def report_corpora(scored: Iterable[Scored], tail: GenuineTail) -> None:
    """Print how many recordings of each corpus are flagged at 50 on this scale."""
    limit = tail.score_of(0.01)
    print("corpus                   people  recordings  flagged at 50", flush=True)
    for one in scored:
        count = len(np.unique(one.source.people))
        flagged = np.mean(one.logits >= limit)
        print(f"{one.source.name:24s} {count:6d} {len(one.logits):11d} {flagged:14.1%}", flush=True)


def print_rates(name: str, genuine: Array, fakes: Array, more: str = "") -> None:
    found = attack_rates(genuine, fakes)
    print(
        f"{name:24s} {len(fakes):10d} {found.eer:6.1%} {found.apcer_at_bpcer_1:14.0%} "
        f"{found.apcer_at_bpcer_5:7.0%}{more}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
