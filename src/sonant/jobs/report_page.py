"""Write the report of a dry run as one HTML page: no scripts, nothing loaded from elsewhere, printable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Enrollment dry run</title>
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --bad: #c0392b;
  --good: #2e7d4f; --look: #a86a00 }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a7a; --good: #7ed6a0; --look: #f0b95a } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } p { margin: .3rem 0 1rem }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; padding: 0; list-style: none }
.figures li { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .9rem; min-width: 7rem }
.figures b { display: block; font-size: 1.5rem; font-weight: 600 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem; vertical-align: top }
thead th { border-bottom: 2px solid var(--line); font-size: .85rem; white-space: nowrap }
td.n, th.n { text-align: right; white-space: nowrap }
tbody { border-bottom: 1px solid var(--line) }
tr.request td { background: var(--soft) } td.name { overflow-wrap: anywhere; min-width: 12rem }
tr.note td { padding-top: 0 } tr.note ul { margin: .2rem 0; padding-left: 1.2rem }
.good { color: var(--good) } .bad { color: var(--bad) } .look { color: var(--look) }
small { opacity: .75 }
</style></head><body>
<h1>Enrollment dry run</h1>
<p>What an enrollment job would make of each request. Nothing was enrolled or kept.</p>
"""

_TABLE = """<div class="scroll"><table><thead><tr>
<th class="n">#</th><th>Recording</th><th>Format</th><th class="n">Length</th><th class="n">Net speech</th>
<th class="n">SNR</th><th class="n">Band</th><th>Codec before</th><th class="n">Clipped</th>
<th>Second voice</th>
</tr></thead>
"""

OUTCOMES = {
    "NEW_ENROLLMENT": "would be enrolled",
    "ENROLLMENT_OVERWRITE": "would be enrolled anew",
    "DUPLICATE_SKIPPED": "would be skipped, enrolled already",
    "ERROR": "would fail",
}


def page(summary: dict[str, Any], lines: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Write the page in pieces, one a request. All text from outside is escaped."""
    yield (_HEAD + _figures(summary) + _TABLE).encode()
    for line in lines:
        yield _request(line).encode()
    yield b"</table></div></body></html>\n"


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
            "look" if summary["VoicesUnderSeveralIds"] else "",
            summary["VoicesUnderSeveralIds"],
            "sound like another speaker id",
        ),
        (
            "look" if summary["SpeakersWithSeveralVoices"] else "",
            summary["SpeakersWithSeveralVoices"],
            "differ from the same speaker id",
        ),
    ]
    chance = summary["PairsByChance"]
    by_chance = "fewer than one" if chance < 1 else f"about {chance:,.0f}"
    items = "".join(f'<li><b class="{kind}">{count:,}</b>{name}</li>' for kind, count, name in figures)
    return (
        f'<ul class="figures">{items}</ul>\n'
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
        f'<tr class="request"><td class="n">{line["Number"]}</td><td class="name" colspan="9">'
        f"<b>{escape(line['RequestId'])}</b> · speaker {escape(line.get('SpeakerId', 'unknown'))}"
        f'{speech}<br><span class="{kind}">{escape(words)}</span></td></tr>'
    ]
    rows += [_recording(number, one) for number, one in enumerate(line.get("Recordings", ()), 1)]
    if line["Warnings"]:
        notes = "".join(f"<li>{escape(text)}</li>" for text in line["Warnings"])
        rows.append(f'<tr class="note"><td></td><td class="look" colspan="9"><ul>{notes}</ul></td></tr>')
    return "<tbody>" + "\n".join(rows) + "</tbody>\n"


def _recording(number: int, one: dict[str, Any]) -> str:
    def figure(name: str, form: str) -> str:
        return "" if one.get(name) is None else form.format(one[name])

    form = ""
    if "Container" in one:
        form = f"{one['Container']} {one['Encoding']}, {one['SampleRateHz'] / 1000:g} kHz"
    second = one.get("SecondVoice")
    cells = [
        ("n", f"<small>{number}</small>"),
        ("name", f"{escape(one['S3Uri'])} <small>channel {one['ChannelId']}</small>"),
        ("", escape(form)),
        ("n", "" if one.get("DurationSeconds") is None else length(one["DurationSeconds"])),
        ("n", figure("NetSpeechSeconds", "{:.1f} s")),
        ("n", figure("SnrDb", "{:.0f} dB")),
        ("n", "" if one.get("BandHz") is None else f"{one['BandHz'] / 1000:.1f} kHz"),
        ("", escape(one.get("Codec", ""))),
        ("n", figure("ClippingShare", "{:.2%}")),
        (
            "look" if second and second["Possible"] else "",
            "" if second is None else "possible" if second["Possible"] else "no sign",
        ),
    ]
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells) + "</tr>"
