"""Build the report of a dry run: lines in manifest order, voices under several ids, a summary.

Stored lines are read three times as a stream; memory holds the voices (1 KiB a request) and the speaker of
each, never the lines.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from sonant.jobs.job_type import Lines
from sonant.jobs.manifest import VERSION
from sonant.jobs.report_line import ERROR, FINGERPRINT, FORMER_VOICE, PROTECTED_VOICE, warnings
from sonant.jobs.report_page import page
from sonant.voice.calibration.file import shipped_calibration
from sonant.voice.pairwise import SAME_RECORDING, PairwiseComparison, compare_all

#: Voiceprints are compared as 30 s of speech on a usual line.
_USUAL_LINE = (30.0, 25.0)
#: Voices of two ids count as one from rates like this on; no line is known, so the stricter scale judges.
_SAME_LOG10 = -4.0

Line = dict[str, Any]
ReadLines = Callable[[], Iterator[tuple[int, Line]]]
"""Reads positions and lines in manifest order; each call reads from the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A summary, and lines with the relations of voices; `lines` can be called repeatedly."""

    summary: dict[str, Any]
    lines: Callable[[], Iterator[Line]]


def report_files(lines: Lines) -> tuple[Iterator[bytes], Iterator[bytes]]:
    """Build the report as JSON and as a page, both in pieces."""
    report = make_report(lambda: in_order(lines))
    return json_report(report), page(report.summary, report.lines())


def in_order(lines: Lines) -> Iterator[tuple[int, Line]]:
    return heapq.merge(lines(True), lines(False), key=itemgetter(0))


def make_report(read_lines: ReadLines) -> Report:
    """Build the report from stored lines (`report_line`, `result.error_line`) in manifest order."""
    counts: Counter[str] = Counter()
    voices, owners, places = [], [], []
    for position, line in read_lines():
        outcome = line.get("LikelyOutcome", ERROR)
        counts[f"ERROR_{line['ErrorCode']}" if outcome == ERROR else outcome] += 1
        if voice := line.get(PROTECTED_VOICE) or line.get(FORMER_VOICE):  # all lines have the same one
            voices.append(np.frombuffer(base64.b64decode(voice), "<f4"))
            owners.append(_number(line["SpeakerId"]))
            places.append(position)
    vectors = np.stack(voices) if voices else np.empty((0, 1), np.float32)
    del voices
    comparison = compare_all(
        vectors,
        np.array(owners, np.int64),
        shipped_calibration().tail(*_USUAL_LINE),
        strict=shipped_calibration().stricter_tail(*_USUAL_LINE, log10_far=_SAME_LOG10),
    )
    referenced = _referenced_requests(read_lines, places, comparison)
    failed = sum(count for name, count in counts.items() if name.startswith(ERROR))
    summary = {
        "Requests": sum(counts.values()),
        "LikelyToSucceed": sum(counts.values()) - failed,
        "LikelyToFail": failed,
        "Outcomes": dict(sorted(counts.items())),
        "VoicesUnderSeveralIds": int(np.sum(comparison.closest >= 0)),
        "SpeakersWithSeveralVoices": int(np.sum(comparison.farthest >= 0)),
        "PairsCompared": comparison.pairs,
        "PairsByChance": round(comparison.chance_pairs, 1),
        "SameVoiceThreshold": round(comparison.same_voice_threshold, 3),
        "DifferentVoicesThreshold": round(comparison.different_voices_threshold, 3),
    }
    return Report(summary=summary, lines=lambda: _lines(read_lines, places, comparison, referenced))


def json_report(report: Report) -> Iterator[bytes]:
    """Write the report as JSON, one request a line of text."""
    yield b'{\n  "Version": ' + orjson.dumps(VERSION) + b',\n  "Summary": ' + orjson.dumps(report.summary)
    yield b',\n  "Requests": ['
    separator = b"\n    "
    for line in report.lines():
        yield separator + orjson.dumps(line)
        separator = b",\n    "
    yield b"\n  ]\n}\n"


def _number(speaker_id: str) -> int:
    """Map a speaker to a number, 63 bits of a digest, so that ids need not be in memory."""
    return int.from_bytes(hashlib.blake2b(speaker_id.encode(), digest_size=8).digest()) >> 1


def _referenced_requests(
    read_lines: ReadLines, places: list[int], comparison: PairwiseComparison
) -> dict[int, tuple[str, str]]:
    """Find (RequestId, SpeakerId) of the voices that others refer to."""
    wanted = {int(n) for n in np.concatenate([comparison.closest, comparison.farthest]) if n >= 0}
    if not wanted:
        return {}
    positions = {places[number]: number for number in wanted}
    return {
        positions[position]: (line["RequestId"], line["SpeakerId"])
        for position, line in read_lines()
        if position in positions
    }


def _lines(
    read_lines: ReadLines,
    places: list[int],
    comparison: PairwiseComparison,
    referenced: dict[int, tuple[str, str]],
) -> Iterator[Line]:
    voice_of = {position: voice for voice, position in enumerate(places)}
    for position, line in read_lines():
        shown = {"Number": position + 1, "LikelyOutcome": ERROR} | line
        shown.pop(FINGERPRINT, None)
        held = [shown.pop(name, None) for name in (PROTECTED_VOICE, FORMER_VOICE)]
        if any(held):  # a voice may have been erased since the first pass
            shown |= _relations(voice_of[position], comparison, referenced)
        shown["Warnings"] = warnings(shown)
        yield shown


def _relations(voice: int, comparison: PairwiseComparison, referenced: dict[int, tuple[str, str]]) -> Line:
    found: Line = {}
    twin, stranger = int(comparison.closest[voice]), int(comparison.farthest[voice])
    if twin >= 0:
        request_id, speaker_id = referenced[twin]
        alike = float(comparison.closest_similarity[voice])
        found["SameVoiceAs"] = {
            "RequestId": request_id,
            "SpeakerId": speaker_id,
            "Similarity": round(alike, 3),
            "SameRecording": alike >= SAME_RECORDING,
            "Count": int(comparison.close_count[voice]),
        }
    if stranger >= 0:
        request_id, _ = referenced[stranger]
        found["UnlikeRequest"] = {
            "RequestId": request_id,
            "Similarity": round(float(comparison.farthest_similarity[voice]), 3),
        }
    return found
