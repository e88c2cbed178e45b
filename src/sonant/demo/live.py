"""The demo's third chapter: four calls at once, in real time, evaluated as an agent's desktop does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonant.cli.context import CliContext, table
from sonant.cli.session_client import SessionClient
from sonant.cli.session_stream import stream_recording
from sonant.errors import SetupError
from sonant.settings import Settings

#: How often a desktop evaluates: Amazon Connect's did every five seconds.
POLL_S = 2.0
_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call: its recording, and the speaker that the caller claims to be."""

    name: str
    description: str
    recording: Path
    claimed_speaker: str
    expected: Mapping[str, Any]
    """Decisions by kind, and the reason for a high risk."""


def run_chapter(
    cli: CliContext,
    settings: Settings,
    folder: Path,
    domain_id: str,
    fresh: Mapping[str, Path],
    fraudsters: Sequence[str],
    *,
    synthetic_call: bytes | None,
) -> dict[str, dict[str, Any]]:
    """Run the chapter in a domain in which the callers are enrolled and the fraudsters on the watchlist.

    `fresh` is a recording of each caller that is in no enrollment; `synthetic_call` is a call with a
    synthesised voice, left out when there is none; new recordings go into `folder`. Returns the decisions by
    call. Raises SetupError when a decision is not the expected one.
    """
    calls = _calls(folder, fresh, fraudsters, synthetic_call)
    cli.report(f"streaming {len(calls)} calls in real time")
    sessions = SessionClient(settings, domain_id)
    cli.print_text(
        "\nCalls, streamed as they are spoken; EvaluateSession is called as an agent's desktop does:\n"
    )
    start_s = time.monotonic()
    with ThreadPoolExecutor(len(calls)) as carriers:
        for call in calls:
            sessions.own.start_session(
                DomainId=sessions.domain_id, SessionName=call.name, SpeakerId=call.claimed_speaker
            )
        streams = [
            carriers.submit(stream_recording, sessions, call.recording, call.name, channel=0, real=True)
            for call in calls
        ]
        evaluations = _follow(cli, sessions, calls, start_s)
        for call, stream in zip(calls, streams, strict=True):
            if not stream.result():
                raise SetupError(f"{call.name}: the call was not processed to its end")
    rows = [(call.description, *_decision_texts(evaluations[call.name])) for call in calls]
    cli.print_text("\n" + table(rows, ("call", "authentication", "fraud detection")))
    decisions = {call.name: _decisions(evaluations[call.name]) for call in calls}
    for call in calls:
        decided = decisions[call.name]
        if any(decided[kind] != expected for kind, expected in call.expected.items()):
            raise SetupError(f"{call.name}: {decided}, expected {dict(call.expected)}")
    cli.print_text("\nEvery call was decided as it should be.\n")
    return decisions


def _calls(
    folder: Path, fresh: Mapping[str, Path], fraudsters: Sequence[str], synthetic_call: bytes | None
) -> list[Call]:
    honest, other = [caller for caller in fresh if caller not in fraudsters][:2]
    known = fraudsters[0]
    calls = [
        Call(
            name="call-honest",
            description=f"{honest} as himself or herself",
            recording=fresh[honest],
            claimed_speaker=honest,
            expected={"authentication": "ACCEPT", "fraud": "LOW_RISK"},
        ),
        Call(
            name="call-impostor",
            description=f"{other} claims to be {honest}",
            recording=fresh[other],
            claimed_speaker=honest,
            expected={"authentication": "REJECT"},
        ),
        Call(
            name="call-fraudster",
            description=f"{known}, who is on the watchlist",
            recording=fresh[known],
            claimed_speaker=known,
            expected={"fraud": "HIGH_RISK", "reason": "KNOWN_FRAUDSTER"},
        ),
    ]
    if synthetic_call is not None:
        recording = folder / "machine-live.wav"
        recording.write_bytes(synthetic_call)
        calls.append(
            Call(
                name="call-machine",
                description=f"a synthesised voice claims to be {honest}",
                recording=recording,
                claimed_speaker=honest,
                expected={"authentication": "REJECT", "fraud": "HIGH_RISK", "reason": "VOICE_SPOOFING"},
            )
        )
    return calls


def _follow(
    cli: CliContext, sessions: SessionClient, calls: Sequence[Call], start_s: float
) -> dict[str, dict[str, Any]]:
    """Evaluate the calls until all are decided, and print every change; returns the last evaluations.

    Raises SetupError when it takes too long.
    """
    seen: dict[str, tuple[str, str]] = {}
    final: dict[str, dict[str, Any]] = {}
    while len(final) < len(calls):
        if time.monotonic() - start_s > _LIMIT_S:
            raise SetupError("the calls were not decided in time")
        for call in calls:
            if call.name in final:
                continue
            evaluation = sessions.voice_id.evaluate_session(**sessions.session_members(call.name))
            decisions = (
                evaluation["AuthenticationResult"]["Decision"],
                evaluation["FraudDetectionResult"]["Decision"],
            )
            status = evaluation["StreamingStatus"]
            if seen.get(call.name) != decisions:
                seen[call.name] = decisions
                cli.print_text(
                    f"{time.monotonic() - start_s:6.1f} s  {call.name:<15} {status:<22} "
                    f"{decisions[0]:<18} {decisions[1]}"
                )
            if "NOT_ENOUGH_SPEECH" not in decisions or status == "ENDED":
                final[call.name] = evaluation
        time.sleep(POLL_S)
    return final


def _decisions(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    fraud = evaluation["FraudDetectionResult"]
    return {
        "authentication": evaluation["AuthenticationResult"]["Decision"],
        "fraud": fraud["Decision"],
        "reason": next(iter(fraud.get("Reasons", ())), None),
    }


def _decision_texts(evaluation: Mapping[str, Any]) -> tuple[str, str]:
    authentication, fraud = evaluation["AuthenticationResult"], evaluation["FraudDetectionResult"]
    risks = fraud.get("RiskDetails", {})
    scores = ", ".join(
        f"{name} {risks[member]['RiskScore']}"
        for name, member in (("fraudster", "KnownFraudsterRisk"), ("spoofing", "VoiceSpoofingRisk"))
        if member in risks
    )
    return (
        f"{authentication['Decision']} (score {authentication.get('Score', '-')})",
        f"{fraud['Decision']} ({scores})",
    )
