#!/usr/bin/env python3
"""Train the GE2E network to give the same embedding over the telephone as for clean wideband speech.

    python tools/distil/train.py --prepared DIR --wheel Resemblyzer-0.1.4-py3-none-any.whl --out RUN

No speaker labels are needed: the target is the embedding of the clean recording by the published network (the
teacher); the student gets the same speech at 8 kHz through a random call (degrade.py) and the product's own
features. Writes RUN/log.jsonl, RUN/best.pt and RUN/last.pt; choose nothing by test voices.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from degrade import RATE_HZ, at_level, call
from network import GRID_FRAMES, LEVEL_DBFS, Encoder, fast, narrow_mels, teacher, windows
from trials import equal_error_rate, separation

from sonant.voice.audio.telephone_band import telephone_band

Array = NDArray[np.float32]
Batch = tuple[Array, Array, NDArray[np.int64]]
"""The student's windows, with the teacher's embedding and the recording of each."""

ITEM_S, WINDOWS_PER_ITEM = (4.0, 8.0), 8
TEMPERATURE = 0.05
WARM_UP_STEPS = 100
AVERAGE_STEPS = 200  # of the running mean of the weights, which is stored


class Voices:
    """Clean recordings at 8 kHz and the teacher's embeddings of them at 16 kHz."""

    def __init__(self, prepared: Path) -> None:
        arrays = np.load(prepared)
        names = [name.removesuffix("/narrow") for name in arrays.files if name.endswith("/narrow")]
        people = sorted({name.split("-", 1)[0] for name in names})
        self.telephone: list[Array] = [arrays[f"{n}/narrow"].astype(np.float32) / 32768 for n in names]
        self.person = [people.index(name.split("-", 1)[0]) for name in names]
        self.grids: list[Array] = [arrays[f"{n}/teacher"].astype(np.float32) for n in names]
        """Embeddings of the windows from every fifth of a second of each recording."""
        means = np.stack([grid.mean(axis=0) for grid in self.grids])
        self.means: Array = means / np.linalg.norm(means, axis=1, keepdims=True)
        """Embeddings of whole recordings; [recordings, 256]."""


class Batches(Dataset[Batch]):  # type: ignore[misc]  # torch is not installed where types are checked
    """Random calls. Batch `i` of a seed is always the same, in any process."""

    def __init__(self, voices: Voices, *, items: int, batches: int, seed: int, mild: float) -> None:
        self._voices, self._items, self._batches = voices, items, batches
        self._seed, self._mild = seed, mild

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self._seed, index])
        received, targets, sources = [], [], []
        for recording in rng.choice(len(self._voices.telephone), self._items, replace=False):
            mels, first_frame = self._call(int(recording), rng)
            starts = rng.integers(0, len(mels) - 160, WINDOWS_PER_ITEM)
            received.append(windows(mels, starts))
            grid = self._voices.grids[recording]
            targets.append(
                grid[np.minimum((first_frame + starts + GRID_FRAMES // 2) // GRID_FRAMES, len(grid) - 1)]
            )
            sources += [recording] * WINDOWS_PER_ITEM
        return np.concatenate(received), np.concatenate(targets), np.array(sources)

    def _call(self, recording: int, rng: np.random.Generator) -> tuple[Array, int]:
        clean = self._voices.telephone[recording]
        length = min(len(clean), int(rng.uniform(*ITEM_S) * RATE_HZ))
        first_frame = int(rng.integers(0, 1 + (len(clean) - length) // 80))
        part = clean[first_frame * 80 :][:length]
        received = call(part, self._voices.telephone, rng, mild=self._mild)
        # The level is measured over the whole of a recording, of which a window is only a part.
        heard = at_level(telephone_band(received), LEVEL_DBFS + float(rng.normal(0, 0.7)))
        return narrow_mels(heard), first_frame


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    training, validation = (Voices(options.prepared / f"{p}.npz") for p in ("training", "validation"))
    # The same calls for every check and every run: of each validation voice five bad ones and two good ones.
    count = len(validation.telephone)
    bad = Batches(validation, items=count, batches=5, seed=7, mild=0)
    good = Batches(validation, items=count, batches=2, seed=8, mild=1)
    held_out = [bad[index] for index in range(5)], [good[index] for index in range(2)]

    student = teacher(options.wheel)
    if options.start:
        start_state, published = torch.load(options.start, weights_only=True), student.state_dict()
        student.load_state_dict(
            {name: published[name].lerp(start_state[name], options.blend) for name in published}
        )
    average = copy.deepcopy(student).eval()
    if options.only:
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(name in options.only)
        if unknown := set(options.only) - {name for name, _ in student.named_parameters()}:
            sys.exit(f"there are no parameters {', '.join(sorted(unknown))}")
    optimiser = torch.optim.Adam([one for one in student.parameters() if one.requires_grad], lr=options.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step, options))
    batches = Batches(
        training,
        items=options.batch // WINDOWS_PER_ITEM,
        batches=options.steps,
        seed=options.seed,
        mild=options.mild,
    )
    loader = DataLoader(
        batches, batch_size=None, shuffle=False, num_workers=options.workers, prefetch_factor=8
    )
    means = torch.from_numpy(training.means)
    people = torch.tensor(training.person)

    options.out.mkdir(parents=True, exist_ok=True)
    began, best = time.monotonic(), float("inf")
    losses: list[float] = []

    def check(step: int) -> None:
        nonlocal best
        figures = validate(average, *held_out)
        line = {
            "step": step,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "loss": round(float(np.mean(losses[-100:])), 5) if losses else None,
            **{name: round(value, 5) for name, value in figures.items()},
        }
        with (options.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        torch.save(average.state_dict(), options.out / "last.pt")
        balance = (figures["eer"] * figures["mild_eer"]) ** 0.5
        if balance < best:
            best = balance
            torch.save(average.state_dict(), options.out / "best.pt")

    check(0)
    for step, (received, targets, sources) in enumerate(loader, 1):
        with fast():
            found = student(received)
        whole = means[sources]
        target = torch.nn.functional.normalize(targets + options.whole * (whole - targets), dim=1)
        loss = (1 - (found * target).sum(dim=1)).mean()
        if options.contrast > 0:
            loss = loss + options.contrast * contrast(found, means, sources, people)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        with torch.no_grad():
            weight = 1 / min(step, AVERAGE_STEPS)
            for mean, new in zip(average.parameters(), student.parameters(), strict=True):
                mean.lerp_(new, weight)
        if step % options.every == 0 or step == options.steps:
            check(step)


def contrast(found: Tensor, means: Tensor, sources: Tensor, people: Tensor) -> Tensor:
    """Compute the cross-entropy of each window's own recording among all recordings of all other people."""
    logits = found @ means.T / TEMPERATURE
    same_person = people[sources][:, None] == people[None, :]
    same_person[torch.arange(len(sources)), sources] = False
    return torch.nn.functional.cross_entropy(logits.masked_fill(same_person, -1e9), sources)


def validate(network: Encoder, bad: Sequence[Batch], good: Sequence[Batch]) -> dict[str, float]:
    """Measure on validation people: cosine distance to the teacher, and separation of the people.

    `distance` is the mean distance to the teacher's embedding of the same window, clean. `eer` and
    `separation` (d') are of pairs of different bad calls, a call being the mean of its 8 windows. With
    `mild_` the same of good calls, where pairs are of single windows: whole calls would leave no errors.
    """
    found = {}
    for prefix, batches, windows_per_vector in (("", bad, WINDOWS_PER_ITEM), ("mild_", good, 1)):
        distances, vectors, people, calls = [], [], [], []
        for number, (received, targets, sources) in enumerate(batches):
            with torch.no_grad():
                embeddings = network(torch.from_numpy(received)).numpy()
            distances.append(1 - (embeddings * targets).sum(axis=1))
            vectors.append(embeddings.reshape(-1, windows_per_vector, embeddings.shape[1]).sum(axis=1))
            people.append(sources[::windows_per_vector])
            calls.append(np.full(len(people[-1]), number))
        all_vectors, names, call = np.concatenate(vectors), np.concatenate(people), np.concatenate(calls)
        all_vectors /= np.linalg.norm(all_vectors, axis=1, keepdims=True)
        pairs = call[:, None] < call[None, :]
        same = (names[:, None] == names[None, :])[pairs]
        scores = (all_vectors @ all_vectors.T)[pairs]
        found[f"{prefix}distance"] = float(np.mean(np.concatenate(distances)))
        found[f"{prefix}eer"] = equal_error_rate(scores[same], scores[~same])
        found[f"{prefix}separation"] = separation(scores[same], scores[~same])
    return found


def _share(step: int, options: argparse.Namespace) -> float:
    """Compute the share of the learning rate.

    It rises over the first steps, then moves evenly to its last value.
    """
    fallen: float = 1 - (1 - options.last_rate / options.rate) * step / options.steps
    return min(1.0, (step + 1) / WARM_UP_STEPS) * fallen


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", type=Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--wheel", type=Path, required=True, help="the published package of the teacher")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=128, help="windows a step, a multiple of 8")
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate")
    parser.add_argument("--last-rate", type=float, default=0.0)
    parser.add_argument("--start", type=Path, help="weights to go on from instead of the teacher's")
    parser.add_argument("--whole", type=float, default=0.0, help="0: target is the window, 1: the recording")
    parser.add_argument("--contrast", type=float, default=0.0, help="weight of the cross-entropy over people")
    parser.add_argument(
        "--blend", type=float, default=1.0, help="begin so far from the teacher towards --start, 0 to 1"
    )
    parser.add_argument("--mild", type=float, default=0.0, help="share of calls with nothing but codecs")
    parser.add_argument(
        "--only", nargs="+", metavar="PARAMETER", help="train these and leave all others as they are"
    )
    parser.add_argument("--every", type=int, default=100, help="steps between checks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
