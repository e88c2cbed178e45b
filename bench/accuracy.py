#!/usr/bin/env python3
"""Sonant and resemblyzer on the same trials: `python bench/accuracy.py [--speech DIR] [--seconds 10 ...]`.

Recordings are cut once, so that Sonant's speech detector finds 30 s of net speech in a reference and so many
seconds in a probe; the cuts, pauses and all, are written as WAV files at 8 kHz, and those are what both
systems get. Resemblyzer runs its own pipeline (`preprocess_wav`, `embed_utterance`, PyTorch) in an
environment of its own. Both are scored by the cosine; the figures are those of `sonant evaluate`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from environments import environment
from peer import REQUIREMENTS
from processes import ONE_THREAD
from report import CACHE, SPEECH, Size, add_peers, add_size
from sonant import __version__
from sonant.demo.speech import fetch_voices
from sonant.errors import AudioError
from sonant.evaluation import cutting, embedding
from sonant.evaluation.channels import CLEAN, parse
from sonant.evaluation.embedding import PieceTemplates
from sonant.evaluation.figures import NAMES, Result, all_results
from sonant.evaluation.report import Report, as_json, condition, notes, show
from sonant.evaluation.run import Conditions, compare_all, tasks_of
from sonant.evaluation.trials import recordings_by_speaker
from sonant.settings import Audio
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import load_models
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

SHOWN = ("eer", "fnmr_at_fmr_0.001", "min_dcf_0.01", "min_cllr")
PEER = "resemblyzer 0.1.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A piece as a file that both systems embed."""

    file: Path
    piece: PieceTemplates
    """Its description, without templates."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Sonant's accuracy beside resemblyzer's, on the same trials."
    )
    parser.add_argument(
        "--speech", type=Path, action="append", help="folder, one sub-folder a speaker; may be repeated"
    )
    add_size(parser)
    add_peers(parser)
    parser.add_argument("--seconds", type=float, action="append", help="net speech of probes [10, 5, 3]")
    parser.add_argument("--enroll-seconds", type=float, help="net speech of references [30, tiny 6]")
    parser.add_argument("--channel", default=CLEAN, help="line to simulate, as `sonant evaluate` takes it")
    parser.add_argument("--references", type=int, help="of a speaker, at most [10, quick 3, tiny 1]")
    parser.add_argument("--probes", type=int, help="of a speaker and length, at most [30, quick 6, tiny 2]")
    parser.add_argument(
        "--results", type=Path, default=CACHE / "accuracy.json", help="write all figures here"
    )
    arguments = parser.parse_args()
    size: Size = arguments.size
    conditions = Conditions(
        enroll_s=arguments.enroll_seconds or size.pick(30.0, 30.0, 6.0),
        test_s=tuple(dict.fromkeys(arguments.seconds or size.pick((10.0, 5.0, 3.0), (10.0, 3.0), (3.0,)))),
        references=arguments.references or size.pick(10, 3, 1),
        probes=arguments.probes or size.pick(30, 6, 2),
    )
    line = parse(arguments.channel)
    voices = fetch_voices(SPEECH, progress=_say)
    data: dict[str, Mapping[str, Sequence[Path]]] = {f"{len(voices)} telephone voices": voices}
    for folder in arguments.speech or ():
        speakers = recordings_by_speaker(folder)
        data[f"{len(speakers)} speakers of {folder.absolute().name}"] = speakers
    documents = {}
    for title, recordings in data.items():
        reports = measure(f"{title}, {line.name}", recordings, conditions, line.name, arguments.peers)
        print(table(*reports))
        documents[title] = [as_json(report) for report in reports]
    file = arguments.results
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(documents, indent=2) + "\n", "utf-8")
    print(f"details in {file}")
    return 0


def measure(
    title: str,
    recordings: Mapping[str, Sequence[Path]],
    conditions: Conditions,
    channel: str,
    peers: bool,
) -> list[Report]:
    """Ours, and theirs if there are peers."""
    with tempfile.TemporaryDirectory(prefix="sonant-accuracy-") as folder:
        begun = time.monotonic()
        cuts = cut_all(Path(folder), recordings, conditions, channel)
        cut_s = time.monotonic() - begun
        ours = sonant(cuts)
        ours_s = time.monotonic() - begun - cut_s
        both = [(load_models().encoder_id, ours)]
        times = f"sonant {ours_s:.0f} s"
        if peers:
            both.append((PEER, resemblyzer(cuts)))
            times += f", resemblyzer {time.monotonic() - begun - cut_s - ours_s:.0f} s"
    _say(f"{title}: {len(cuts)} pieces cut in {cut_s:.0f} s; {times}")
    reports = []
    for model_id, made in both:
        outcomes = compare_all(made, conditions, tuple(recordings))
        reports.append(
            Report(
                data=title,
                model_id=model_id,
                scorer="cosine",
                version=__version__,
                seed=conditions.seed,
                results=all_results(outcomes, {}),
            )
        )
    return reports


def cut_all(
    folder: Path, recordings: Mapping[str, Sequence[Path]], conditions: Conditions, channel: str
) -> list[Cut]:
    """Every reference and probe as a WAV file: 8 kHz, 16 bit, sent over the channel."""
    models, line = load_models(), parse(channel)
    found: list[Cut] = []
    for task in tasks_of(recordings, conditions, audio=Audio()):
        spoken = _others(task.speaker, recordings) if line.babbles else []
        others = [embedding.read(file, task.audio)[: int(embedding.BABBLE_S * RATE_HZ)] for file in spoken]
        for wanted, piece in embedding.pieces_of(task, models)[0]:
            file = folder / f"{len(found):06}.wav"
            samples = line.apply(piece.samples, seed=(conditions.seed, len(found)), others=others)
            soundfile.write(file, np.clip(samples, -1, 1), RATE_HZ, subtype="PCM_16")
            made = PieceTemplates(
                speaker=task.speaker,
                use=wanted.use,
                requested_s=wanted.net_speech_s,
                sources=piece.sources,
                templates={},
            )
            found.append(Cut(file=file, piece=made))
        _say(f"cut {task.speaker}")
    return found


def sonant(cuts: Sequence[Cut]) -> list[PieceTemplates]:
    models = load_models()
    found = []
    for cut in cuts:
        samples = embedding.read(cut.file, Audio())
        try:
            sample: VoiceSample | None = cutting.template(samples, models, net_speech_s=cut.piece.requested_s)
        except AudioError:
            sample = None
        found.append(replace(cut.piece, templates={CLEAN: sample}))
    return found


def resemblyzer(cuts: Sequence[Cut]) -> list[PieceTemplates]:
    """The same files through the reference implementation, one process a core."""
    python = environment("peer-venv", *REQUIREMENTS)
    script = Path(__file__).with_name("accuracy_resemblyzer.py")
    processes = min(len(os.sched_getaffinity(0)), len(cuts))
    workers = []
    for number in range(processes):
        files = [str(cut.file) for cut in cuts[number::processes]]
        out = cuts[0].file.with_name(f"embeddings-{number}.npy")
        (out.with_suffix(".json")).write_text(json.dumps(files))
        worker = subprocess.Popen(
            [str(python), "-W", "ignore", str(script), str(out.with_suffix(".json")), str(out)],
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **ONE_THREAD},
        )
        workers.append((worker, out))
    vectors = np.empty((len(cuts), 256), np.float32)
    try:
        for number, (worker, out) in enumerate(workers):
            if worker.wait() != 0:
                raise RuntimeError(f"the resemblyzer process ended with {worker.returncode}")
            vectors[number::processes] = np.load(out)
    finally:
        for worker, _ in workers:
            worker.kill()
            worker.wait()
    no_quality = Quality(net_speech_s=0.0)
    return [
        replace(
            cut.piece,
            templates={CLEAN: VoiceSample(model_id=PEER, vector=vector, quality=no_quality)},
        )
        for cut, vector in zip(cuts, vectors, strict=True)
    ]


def table(ours: Report, theirs: Report | None = None) -> str:
    """Both side by side, a figure a line, then what they rest on."""
    rows: list[tuple[str, ...]] = [
        ("condition", "figure", "sonant", *((PEER, "sonant / resemblyzer") if theirs else ()))
    ]
    for place, one in enumerate(ours.results):
        name = condition(one.outcome).split(", ", 1)[1]
        name += f"; {one.speakers} speakers, {one.genuine:,} genuine, {one.impostor:,} impostor"
        for figure in SHOWN:
            row: tuple[str, ...] = (name, NAMES[figure], show(figure, one.figures[figure]))
            if theirs:
                two = theirs.results[place]
                row += (show(figure, two.figures[figure]), _ratio(one, two, figure))
            rows.append(row)
            name = ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    failed = sum(result.outcome.probes_failed for result in ours.results)
    remarks = dict.fromkeys([*notes(ours), *(notes(theirs) if theirs else ())])
    return "\n".join(
        [
            "",
            ours.data,
            "",
            *lines,
            "",
            f"Sonant could not embed {failed} probes.",
            *(f"* {note}" for note in remarks),
            "",
        ]
    )


def _ratio(one: Result, two: Result, figure: str) -> str:
    ours, theirs = one.figures[figure].value, two.figures[figure].value
    return "-" if ours is None or not theirs else f"{ours / theirs:.2f}"


def _others(speaker: str, recordings: Mapping[str, Sequence[Path]]) -> list[Path]:
    return [files[0] for name, files in recordings.items() if name != speaker][:4]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
