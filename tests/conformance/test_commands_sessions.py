"""`sonant session …` against a real service, with a recording of a real voice."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from carried_calls import messages_until_closed, opened
from service_process import ServiceProcess
from waiting import wait_until


@pytest.fixture(scope="module")
def calls(service: ServiceProcess, make_call: Any, voices: Any) -> dict[str, Path]:
    """Recordings: one to enrol anna with, one more of her, and one of somebody else."""
    one, two, *_ = voices
    made = {
        "enrollment": make_call(one, 1, channels=2, customer_channel=1),
        "anna": make_call(one, 2, fresh=True, net_speech_s=13.0, duration_s=20.0, channels=1),
        "other": make_call(two, 2, fresh=True, net_speech_s=13.0, duration_s=20.0, channels=1),
    }
    files = {name: service.data.parent / f"{name}.wav" for name in made}
    for name, file in files.items():
        file.write_bytes(made[name])
    return files


@pytest.mark.slow
def test_enrolled_speaker_is_accepted_in_the_next_session(
    service: ServiceProcess, domain_id: str, calls: dict[str, Path]
) -> None:
    of = ("--domain", domain_id)
    started = service.sonant(
        "session", "start", "call-1", "--speaker", "anna", "--acceptance-threshold", "85", *of
    )
    assert started.code == 0, started.err
    assert "PENDING_CONFIGURATION" in started.out
    assert service.sonant("session", "enroll", "call-1", *of).out.strip() == "NOT_ENOUGH_SPEECH"

    streamed = service.sonant(
        "session",
        "stream",
        str(calls["enrollment"]),
        "--session",
        "call-1",
        "--channel",
        "1",
        "--speed",
        "full",
        *of,
    )
    assert streamed.code == 0, streamed.err
    assert "30.0 s of speech; CALL_ENDED" in streamed.out
    wait_until(
        "the speaker is enrolled",
        lambda: "COMPLETED" in service.sonant("session", "describe", "call-1", *of).out,
    )

    for who, decision, code in (("anna", "ACCEPT", 0), ("other", "REJECT", 3)):
        name = f"call-of-{who}"
        streamed = service.sonant(
            "session",
            "stream",
            *(str(calls[who]), "--session", name, "--speaker", "anna", "--speed", "full", "--json", *of),
        )
        assert streamed.code == 0, streamed.err
        told = json.loads(streamed.out)
        assert told["Evaluation"]["AuthenticationResult"]["Decision"] == decision
        assert told["Session"]["HeardSeconds"] == pytest.approx(20.0, abs=0.1)
        evaluated = service.sonant("session", "evaluate", name, *of)
        assert evaluated.code == code
        assert decision in evaluated.out

    listed = service.sonant("session", "list", *of).out.splitlines()
    assert [line.split()[0] for line in listed] == ["session", "call-1", "call-of-anna", "call-of-other"]
    assert service.sonant("session", "list", "--status", "ONGOING", *of).out.splitlines()[1:] == []


def test_a_session_may_be_changed_and_ended(service: ServiceProcess, domain_id: str) -> None:
    of = ("--domain", domain_id)
    setup = ("--no-authentication", "--risk-threshold", "70", "--json")
    started = json.loads(service.sonant("session", "start", *setup, *of).out)["Session"]
    assert "AuthenticationConfiguration" not in started
    assert started["FraudDetectionConfiguration"]["RiskThreshold"] == 70
    name = started["SessionName"]
    updated = service.sonant("session", "update", name, "--risk-threshold", "60", "--speaker", "bob", *of)
    assert updated.code == 0, updated.err
    assert "bob" in updated.out
    assert "60" in updated.out
    ended = service.sonant("session", "end", name, *of)
    assert "REQUESTED" in ended.out
    speech = service.sonant("session", "start", "--speech", "5", "--no-fraud-detection", "--json", *of)
    told = json.loads(speech.out)["Session"]
    assert told["StreamingConfiguration"]["AuthenticationMinimumSpeechInSeconds"] == 5


def test_signed_url_takes_audio_from_any_client(service: ServiceProcess, domain_id: str) -> None:
    of = ("--domain", domain_id)
    service.sonant("session", "start", "call-1", *of)
    form = ("--encoding", "mulaw", "--channels", "2", "--channel", "1", "--expires", "60")
    url = service.sonant("session", "url", "call-1", *form, *of).out.strip()
    assert url.startswith(f"ws://127.0.0.1:{service.port}/stream?")
    with opened(url) as connection:
        connection.send(bytes(320))
        connection.send('{"type": "end"}')
        assert messages_until_closed(connection)[1:] == (1000, "CALL_ENDED")
    (session,) = json.loads(service.sonant("session", "list", "--json", *of).out)["SessionSummaries"]
    assert session["StreamEndReason"] == "CALL_ENDED"


def test_end_by_the_service_is_reported(
    service: ServiceProcess, domain_id: str, calls: dict[str, Path]
) -> None:
    of = ("--domain", domain_id)

    def end() -> None:
        own = service.own_client()
        ongoing = {"DomainId": domain_id, "StreamingStatus": "ONGOING"}
        wait_until("it is heard", lambda: own.list_sessions(**ongoing)["SessionSummaries"])
        own.end_stream(DomainId=domain_id, SessionNameOrId="call-1")

    threading.Thread(target=end, daemon=True).start()
    streamed = service.sonant("session", "stream", str(calls["anna"]), "--session", "call-1", *of)
    assert streamed.code == 1
    assert "the service ended the stream: REQUESTED" in streamed.err


def test_faults_are_one_sentence(service: ServiceProcess, domain_id: str, calls: dict[str, Path]) -> None:
    of = ("--domain", domain_id)
    absent = service.sonant("session", "describe", "call-1", *of)
    assert absent.code == 1
    assert absent.err.count("\n") == 1
    assert "ResourceNotFoundException" in absent.err
    wrong = service.sonant("session", "stream", str(calls["anna"]), "--channel", "3", *of)
    assert (wrong.code, "channel 3 is not there" in wrong.err) == (1, True)
    channel = service.sonant("session", "url", "call-1", "--channel", "1", *of)
    assert (channel.code, "channel 1 of 1" in channel.err) == (1, True)
    domains = service.sonant("session", "list", "--domain", "d" * 22)
    assert (domains.code, "ResourceNotFoundException" in domains.err) == (1, True)


def test_missing_service_is_reported(service: ServiceProcess, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "credentials").write_text((service.data / "credentials").read_text())
    (data / "endpoint").write_text("http://127.0.0.1:1\n")
    gone = service.sonant("session", "list", "--data", str(data), "--domain", "d" * 22)
    assert (gone.code, "is `sonant serve` running?" in gone.err) == (1, True)
