"""Write the report of a dry run as one HTML page: no scripts, nothing loaded from elsewhere, printable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from typing import Any

from sonant import __version__
from sonant.evaluation import html
from sonant.storage.times import now

_COLUMNS = (
    ("n", "#"), ("", "Recording"), ("", "Format"), ("n", "Length"), ("n", "Net speech"),
    ("n", "Level"), ("n", "SNR"), ("n", "Band"), ("", "Codec before"), ("n", "Clipped"), ("", "Second voice"),
)  # fmt: skip

OUTCOMES = {
    "NEW_ENROLLMENT": "would be enrolled",
    "ENROLLMENT_OVERWRITE": "would be enrolled anew",
    "DUPLICATE_SKIPPED": "would be skipped, enrolled already",
    "ERROR": "would fail",
}


#: What the columns mean.
_LEGEND = (
    "Net speech: speech of the chosen channel, without pauses.",
    "SNR: how far speech is above the noise; 10 dB or more is good.",
    "Band: up to where there is speech; telephone calls end at about 3.4 kHz.",
    "Codec before: compression that the recording went through earlier.",
    "Clipped: share of samples at full scale.",
    "Second voice: whether another person seems to speak on the same channel.",
)
_CHOICES = (
    ("show-all", "all requests"),
    ("show-fail", "those that would fail"),
    ("show-warned", "those with warnings"),
    ("show-pass", "those that would succeed"),
)
#: Most reasons that are listed.
_MOST_REASONS = 50


def page(
    summary: dict[str, Any], lines: Iterable[dict[str, Any]], made_at: datetime | None = None
) -> Iterator[bytes]:
    """Write the page in pieces, one a request. All text from outside is escaped.

    `made_at` is the date of the report, now by default.
    """
    start = html.page_start(
        "Enrollment dry run",
        "What an enrollment job would make of each request. Nothing was enrolled or kept. "
        f"Made on {made_at or now():%Y-%m-%d %H:%M} UTC by Sonant {__version__}.",
    )
    legend = f"<details><summary>What the columns mean</summary>{html.bullets(_LEGEND)}</details>"
    top = start + _figures(summary) + legend + html.choice("Show", _CHOICES)
    yield (top + html.table_start(_COLUMNS)).encode()
    reasons: Counter[str] = Counter()
    for line in lines:
        reasons.update(_reasons(line))
        yield _request(line).encode()
    yield (html.TABLE_END + _reason_table(reasons) + html.PAGE_END).encode()


def _reasons(line: dict[str, Any]) -> set[str]:
    """Give a request's error and warnings without their numbers, so that equal ones can be counted."""
    found = [f"would fail: {line['ErrorMessage']}"] if line["LikelyOutcome"] == "ERROR" else []
    found += line["Warnings"]
    return {re.sub(r"\d[\d.,]*", "…", text) for text in found}


def _reason_table(reasons: Counter[str]) -> str:
    """Count requests by reason, the most frequent first."""
    if not reasons:
        return ""
    rows = [[f"{count:,}", escape(text)] for text, count in reasons.most_common(_MOST_REASONS)]
    return f"<h2>Requests by reason</h2>{html.table(['requests', 'reason'], rows)}"


def length(seconds: float) -> str:
    """Format a length as minutes and seconds, such as `4:05`."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _figures(summary: dict[str, Any]) -> str:
    figures = [
        ("", summary["Requests"], "requests"),
        ("good", summary["LikelyToSucceed"], "likely to succeed"),
        ("bad" if summary["LikelyToFail"] else "", summary["LikelyToFail"], "likely to fail"),
        (
            "warn" if summary["VoicesUnderSeveralIds"] else "",
            summary["VoicesUnderSeveralIds"],
            "sound like another speaker id",
        ),
        (
            "warn" if summary["SpeakersWithSeveralVoices"] else "",
            summary["SpeakersWithSeveralVoices"],
            "differ from the same speaker id",
        ),
    ]
    chance = summary["PairsByChance"]
    by_chance = "fewer than one" if chance < 1 else f"about {chance:,.0f}"
    boxes = html.key_figures((kind, f"{count:,}", name) for kind, count, name in figures)
    return (
        f"{boxes}\n"
        f"<p><small>{summary['PairsCompared']:,} pairs of voices under different ids were compared; "
        f"{by_chance} of them should sound alike (similarity {summary['SameVoiceThreshold']:g} or more) by "
        "chance. Voices under one id differ when their similarity is under "
        f"{summary['DifferentVoicesThreshold']:g}.</small></p>\n"
    )


def _request(line: dict[str, Any]) -> str:
    outcome = line["LikelyOutcome"]
    words = OUTCOMES.get(outcome, outcome)
    if outcome == "ERROR":
        words += f": {line['ErrorCode']} {line['ErrorMessage']}"
    kind = "bad" if outcome == "ERROR" else "good"
    have, need = line.get("NetSpeechSeconds"), line.get("NeededSpeechSeconds")
    speech = "" if have is None else f" · {have:.1f} s of speech, {need:g} s needed"
    rows = [
        f'<tr class="head"><td class="n">{line["Number"]}</td><td class="name" colspan="10">'
        f"<b>{escape(line['RequestId'])}</b> · speaker {escape(line.get('SpeakerId', 'unknown'))}"
        f'{speech}<br><span class="{kind}">{escape(words)}</span></td></tr>'
    ]
    rows += [_recording(number, one) for number, one in enumerate(line.get("Recordings", ()), 1)]
    if line["Warnings"]:
        notes = "".join(f"<li>{escape(text)}</li>" for text in line["Warnings"])
        rows.append(f'<tr class="note"><td></td><td class="warn" colspan="10"><ul>{notes}</ul></td></tr>')
    shown = ("fail" if outcome == "ERROR" else "pass") + (" warned" if line["Warnings"] else "")
    return f'<tbody class="group {shown}">' + "\n".join(rows) + "</tbody>\n"


def party_text(parties: Sequence[dict[str, Any]]) -> str:
    """Describe the parties of a recording: `selected 61 %, agent 30 %`."""
    named = (
        ("selected" if one["Selected"] else "agent" if one["Agent"] else "other", one["Share"])
        for one in parties
    )
    return ", ".join(f"{name} {share:.0%}" for name, share in named) or "nobody with enough speech"


def _second_voice(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return "yes" if found.get("Certain") else "possible" if found["Possible"] else "no sign"


def _recording(number: int, one: dict[str, Any]) -> str:
    def figure(name: str, form: str) -> str:
        return "" if one.get(name) is None else form.format(one[name])

    form = ""
    if "Container" in one:
        form = f"{one['Container']} {one['Encoding']}, {one['SampleRateHz'] / 1000:g} kHz"
    second = one.get("SecondVoice")
    parties = one.get("Parties")
    cells = [
        ("n", f"<small>{number}</small>"),
        ("name", f"{escape(one['S3Uri'])} <small>channel {one['ChannelId']}</small>"),
        ("", escape(form)),
        ("n", "" if one.get("DurationSeconds") is None else length(one["DurationSeconds"])),
        ("n", figure("NetSpeechSeconds", "{:.1f} s")),
        ("n", figure("LevelDbfs", "{:.0f} dBFS")),
        ("n", figure("SnrDb", "{:.0f} dB")),
        ("n", "" if one.get("BandHz") is None else f"{one['BandHz'] / 1000:.1f} kHz"),
        ("", escape(one.get("Codec", ""))),
        ("n", figure("ClippingShare", "{:.2%}")),
        (
            "warn" if second and second["Possible"] else "",
            _second_voice(second) if parties is None else party_text(parties),
        ),
    ]
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells) + "</tr>"
