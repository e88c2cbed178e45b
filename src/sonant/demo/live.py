"""The demo's third chapter: four calls at once, in real time, and what an agent's desktop hears of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sonant.cli.common import client, table
from sonant.cli.session import Desk
from sonant.cli.session_stream import bring
from sonant.errors import SetupError
from sonant.settings import Settings

#: How often a desktop asks: Voice ID's own asked every five seconds.
POLL_S = 2.0
_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A call: who is on the line, and whom he says to be."""

    name: str
    about: str
    recording: Path
    claims: str
    expected: Mapping[str, Any]
    """Decisions, by kind, and the reason for a high risk."""


def tell(
    settings: Settings,
    folder: Path,
    domain_id: str,
    fresh: Mapping[str, Path],
    fraudsters: Sequence[str],
    *,
    machine: bytes | None,
    say: Callable[[str], None],
) -> None:
    """Run the chapter in a domain in which the callers are enrolled and the fraudsters on the watchlist.

    `fresh` is a recording of each caller that nothing was enrolled from; `machine` is a call with a
    synthesised voice, left out when there is none; `folder` takes new recordings. Raises SetupError when a
    decision is not the expected one.
    """
    scenes = _scenes(folder, fresh, fraudsters, machine)
    say(f"streaming {len(scenes)} calls in real time")
    desk = Desk(settings, domain_id, as_json=False)
    click.echo("\nCalls, streamed as they are spoken; EvaluateSession is asked as an agent's desktop does:\n")
    begun_s = time.monotonic()
    with ThreadPoolExecutor(len(scenes)) as carriers:
        for scene in scenes:
            desk.own.start_session(DomainId=desk.domain_id, SessionName=scene.name, SpeakerId=scene.claims)
        calls = [
            carriers.submit(bring, desk, scene.recording, scene.name, channel=0, real=True)
            for scene in scenes
        ]
        service = client(settings)
        told = _follow(service, desk, scenes, begun_s)
        for scene, call in zip(scenes, calls, strict=True):
            if not call.result():
                raise SetupError(f"{scene.name}: the call was not heard to its end")
    rows = [(scene.about, *_verdict(told[scene.name])) for scene in scenes]
    click.echo("\n" + table(rows, ("call", "authentication", "fraud detection")))
    for scene in scenes:
        found = told[scene.name]
        fraud = found["FraudDetectionResult"]
        decided = {
            "authentication": found["AuthenticationResult"]["Decision"],
            "fraud": fraud["Decision"],
            "reason": next(iter(fraud.get("Reasons", ())), None),
        }
        if any(decided[what] != expected for what, expected in scene.expected.items()):
            raise SetupError(f"{scene.name}: {decided}, expected {dict(scene.expected)}")
    click.echo("\nEvery call was decided as it should be.\n")


def _scenes(
    folder: Path, fresh: Mapping[str, Path], fraudsters: Sequence[str], machine: bytes | None
) -> list[Scene]:
    honest, other = [caller for caller in fresh if caller not in fraudsters][:2]
    known = fraudsters[0]
    scenes = [
        Scene(
            name="call-honest",
            about=f"{honest} as himself or herself",
            recording=fresh[honest],
            claims=honest,
            expected={"authentication": "ACCEPT", "fraud": "LOW_RISK"},
        ),
        Scene(
            name="call-impostor",
            about=f"{other} claims to be {honest}",
            recording=fresh[other],
            claims=honest,
            expected={"authentication": "REJECT"},
        ),
        Scene(
            name="call-fraudster",
            about=f"{known}, who is on the watchlist",
            recording=fresh[known],
            claims=known,
            expected={"fraud": "HIGH_RISK", "reason": "KNOWN_FRAUDSTER"},
        ),
    ]
    if machine is not None:
        recording = folder / "machine-live.wav"
        recording.write_bytes(machine)
        scenes.append(
            Scene(
                name="call-machine",
                about=f"a synthesised voice claims to be {honest}",
                recording=recording,
                claims=honest,
                expected={"authentication": "REJECT", "fraud": "HIGH_RISK", "reason": "VOICE_SPOOFING"},
            )
        )
    return scenes


def _follow(service: Any, desk: Desk, scenes: Sequence[Scene], begun_s: float) -> dict[str, dict[str, Any]]:
    """The final evaluation of each call; every change of a decision is told when it is seen."""
    seen: dict[str, tuple[str, str]] = {}
    final: dict[str, dict[str, Any]] = {}
    while len(final) < len(scenes):
        if time.monotonic() - begun_s > _LIMIT_S:
            raise SetupError("the calls were not decided in time")
        for scene in scenes:
            if scene.name in final:
                continue
            told = service.evaluate_session(**desk.of(scene.name))
            authentication, fraud = told["AuthenticationResult"], told["FraudDetectionResult"]
            decisions = authentication["Decision"], fraud["Decision"]
            if seen.get(scene.name) != decisions:
                seen[scene.name] = decisions
                after_s = time.monotonic() - begun_s
                click.echo(f"{after_s:6.1f} s  {scene.name:<15} {told['StreamingStatus']:<22} "
                           f"{decisions[0]:<18} {decisions[1]}")  # fmt: skip
            if "NOT_ENOUGH_SPEECH" not in decisions or told["StreamingStatus"] == "ENDED":
                final[scene.name] = told
        time.sleep(POLL_S)
    return final


def _verdict(told: Mapping[str, Any]) -> tuple[str, str]:
    authentication, fraud = told["AuthenticationResult"], told["FraudDetectionResult"]
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
