"""Calls over every carrier, with real voices: the enrolled caller is accepted, another is not.

Messages are those of each protocol's public documentation.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import uuid
import wave
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyzed_calls import analyze, enroll
from aws_servers import free_port
from botocore.exceptions import ClientError
from carried_calls import (
    Samples,
    alaw,
    at_16_khz,
    audiosocket,
    evaluated,
    messages_until_closed,
    mulaw,
    opened,
    samples_of,
    sent_and_closed,
    stream_url,
    upload,
)
from carrier_peers import FRAMES_PEERS, MESSAGES_PEERS, SECRET, FramesPeer, MessagesPeer, plivo_signature
from recording_client import RecordingClient
from service_process import NO_JOBS, ServiceProcess, running
from sipp_recordings import SIPP, run_sipp
from twilio.request_validator import RequestValidator
from waiting import ASK_S, PATIENCE_S, wait_until
from websockets.exceptions import InvalidStatus

PASSWORD = "a password of some length"
TOKEN = "0123456789abcdef0123456789abcdef"
API_KEY = "an api key of some length"
#: Frames of 20 ms, sent faster than real time.
PIECE = 160
PEERS: dict[str, MessagesPeer | FramesPeer] = {**MESSAGES_PEERS, **FRAMES_PEERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Testbed:
    service: ServiceProcess
    domain_id: str
    audiosocket_port: int
    siprec_port: int
    right: Samples
    """The enrolled caller, anna, in another call."""
    other: Samples

    def of(self, name: str) -> dict[str, str]:
        return {"DomainId": self.domain_id, "SessionNameOrId": name}

    def start(self, who: str = "anna") -> str:
        name = str(uuid.uuid4())
        self.service.own_client().start_session(DomainId=self.domain_id, SessionName=name, SpeakerId=who)
        return name

    def session(self, name: str) -> dict[str, Any]:
        return dict(self.service.own_client().describe_session(**self.of(name))["Session"])

    def wait_for_room(self, name: str, sent: int) -> None:
        """Wait, after so many samples, until there is room for more."""
        at_s, every_s = sent / 8000, 4

        def processed() -> bool:
            try:
                return bool(self.session(name)["HeardSeconds"] > at_s - every_s)
            except ClientError as fault:
                if fault.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
                return False  # the carrier's first message makes the session

        if sent and sent % (every_s * 8000) == 0:
            wait_until("it is processed", processed)

    def decision(self, name: str) -> str:
        return str(evaluated(self.service, self.domain_id, name)["AuthenticationResult"]["Decision"])


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory, make_call: Any, voices: Any) -> Iterator[Testbed]:
    data = tmp_path_factory.mktemp("carriers") / "data"
    one, two, *_ = voices
    with running(data, **NO_JOBS) as service:
        domain_id = service.domain()
        enroll(service, domain_id, "anna", analyze(make_call(one, 1, channels=1), 30.0))
    port, siprec_port = free_port(), free_port()
    with running(
        data,
        LIVE_DOMAIN=domain_id,
        LIVE_AUDIOSOCKET_PORT=str(port),
        LIVE_SIPREC_PORT=str(siprec_port),
        LIVE_SIPREC_AGENTS="sip:[^@]*@agents[.]example[.]com",
        LIVE_SIPREC_SPEAKER="customerId",
        LIVE_ASTERISK_USER="pbx",
        LIVE_ASTERISK_PASSWORD=PASSWORD,
        LIVE_TWILIO_TOKEN=TOKEN,
        LIVE_AUDIOHOOK_KEY=API_KEY,
        **{f"LIVE_{name.upper()}": value for peer in PEERS.values() for name, value in peer.settings.items()},
        **NO_JOBS,
    ) as service:
        yield Testbed(
            service=service,
            domain_id=domain_id,
            audiosocket_port=port,
            siprec_port=siprec_port,
            right=samples_of(make_call(one, 2, fresh=True, net_speech_s=13.0, duration_s=20.0, channels=1)),
            other=samples_of(make_call(two, 2, fresh=True, net_speech_s=13.0, duration_s=20.0, channels=1)),
        )


#: Who is not the speaker is rejected alike over every carrier: by default over the native one.
OTHER = pytest.param("other", "REJECT", marks=pytest.mark.slow)
WHO = pytest.mark.parametrize(("who", "decision"), [("right", "ACCEPT"), OTHER])


@pytest.mark.parametrize(
    ("form", "who", "decision"),
    [
        ("pcm_s16le", "right", "ACCEPT"),
        ("pcm_s16le", "other", "REJECT"),
        ("mulaw", "right", "ACCEPT"),
        ("16 kHz", "right", "ACCEPT"),
        ("second of two channels", "right", "ACCEPT"),
        pytest.param("second of two channels", "other", "REJECT", marks=pytest.mark.slow),
    ],
)
def test_native_websocket(testbed: Testbed, who: str, decision: str, form: str) -> None:
    samples, name = getattr(testbed, who), testbed.start()
    query, data = {"Encoding": "pcm_s16le"}, samples.tobytes()
    if form == "mulaw":
        query, data = {"Encoding": "mulaw"}, mulaw(samples)
    elif form == "16 kHz":
        query, data = {"SampleRate": "16000"}, at_16_khz(samples).tobytes()
    elif form == "second of two channels":
        # The other voice on the first channel must be ignored.
        agent = testbed.right if who == "other" else testbed.other
        query, data = {"Channels": "2", "Channel": "1"}, np.stack([agent, samples], 1).tobytes()
    with opened(stream_url(testbed.service, {**testbed.of(name), **query})) as connection:
        assert json.loads(connection.recv())["sessionId"] == testbed.session(name)["SessionId"]
        assert sent_and_closed(connection, data, 640) == (1000, "CALL_ENDED")
    session = testbed.session(name)
    assert (session["StreamingStatus"], session["StreamEndReason"]) == ("ENDED", "CALL_ENDED")
    assert session["HeardSeconds"] == pytest.approx(20.0, abs=0.1)
    assert testbed.decision(name) == decision


@pytest.mark.parametrize(
    ("form", "who", "decision"),
    [
        ("audio/wav", "right", "ACCEPT"),
        pytest.param("audio/wav", "other", "REJECT", marks=pytest.mark.slow),
        ("audio/L16; rate=8000", "right", "ACCEPT"),
        ("audio/x-mulaw", "right", "ACCEPT"),
    ],
)
def test_upload(testbed: Testbed, who: str, decision: str, form: str) -> None:
    samples, name = getattr(testbed, who), testbed.start()
    if form == "audio/wav":
        data = _wav(samples)
        status, answer = upload(
            testbed.service, testbed.of(name), data, form, sha256=hashlib.sha256(data).hexdigest()
        )
    else:
        data = mulaw(samples) if form == "audio/x-mulaw" else samples.astype(">i2").tobytes()
        # Pieces of an odd size: samples lie across them.
        pieces = (data[place : place + 7777] for place in range(0, len(data), 7777))
        status, answer = upload(testbed.service, testbed.of(name), pieces, form)
    assert status == 200, answer
    assert answer["SessionId"] == testbed.session(name)["SessionId"]
    assert answer["HeardSeconds"] == pytest.approx(20.0, abs=0.1)
    assert 10.0 <= answer["NetSpeechSeconds"] <= 20.0
    assert testbed.decision(name) == decision
    assert testbed.session(name)["StreamingStatus"] == "ENDED"


@WHO
def test_asterisk_audiosocket(testbed: Testbed, who: str, decision: str) -> None:
    samples, call = getattr(testbed, who), uuid.uuid4()
    own = testbed.service.own_client()
    own.start_session(DomainId=testbed.domain_id, SessionName=str(call), SpeakerId="anna")
    with audiosocket(testbed.audiosocket_port, call.bytes) as line:
        for place in range(0, len(samples), PIECE):
            testbed.wait_for_room(str(call), place)
            line.sendall(b"\x10\x01\x40" + samples[place : place + PIECE].tobytes())
        line.sendall(b"\x00\x00\x00")
        assert testbed.decision(str(call)) == decision
        assert line.recv(16) == b""  # the service closes, too


@WHO
def test_siprec(testbed: Testbed, who: str, decision: str) -> None:
    samples, agent, session = getattr(testbed, who), testbed.other, uuid.uuid4().hex
    if who == "other":
        agent = testbed.right  # the other voice on the agent's stream must be ignored
    with RecordingClient(testbed.siprec_port) as client:
        assert client.begin(session).status == 200
        assert testbed.session(session)["StreamingStatus"] in ("PENDING_CONFIGURATION", "ONGOING")
        client.speak_all(mulaw(samples), mulaw(agent))
        assert testbed.decision(session) == decision
        assert client.ask("BYE").status == 200
        wait_until("it ended", lambda: testbed.session(session)["StreamingStatus"] == "ENDED", look_s=ASK_S)
        assert testbed.session(session)["StreamEndReason"] == "CALL_ENDED"


@pytest.mark.slow
@pytest.mark.skipif(SIPP is None, reason="sipp is not installed (apt install sip-tester)")
def test_ten_siprec_calls_of_sipp_at_once(testbed: Testbed, tmp_path: Path) -> None:
    assert run_sipp(tmp_path, testbed.siprec_port, mulaw(testbed.right), calls=10, seconds=22) == ""
    for number in range(1, 11):
        assert testbed.decision(f"call-{number}") == "ACCEPT"
        assert testbed.session(f"call-{number}")["HeardSeconds"] == pytest.approx(20.0, abs=0.5)


@WHO
def test_asterisk_websocket(testbed: Testbed, who: str, decision: str) -> None:
    samples, name = getattr(testbed, who), str(uuid.uuid4())
    url = f"ws://127.0.0.1:{testbed.service.port}/stream/asterisk?session={name}&speaker=anna"
    with opened(url, subprotocols=["media"], additional_headers=_basic("pbx", PASSWORD)) as connection:
        assert connection.subprotocol == "media"
        connection.send(
            "MEDIA_START connection_id:e226e283-c90a-4ea9-9e37-389000b9ef47 channel:WebSocket/connectionid "
            "format:ulaw optimal_frame_size:160"
        )
        data = mulaw(samples)
        for place in range(0, len(data), PIECE):
            testbed.wait_for_room(name, place)
            connection.send(data[place : place + PIECE])
        assert testbed.decision(name) == decision
        testbed.service.own_client().end_stream(**testbed.of(name))
        assert messages_until_closed(connection) == (["HANGUP"], 1000, "REQUESTED")


@WHO
def test_twilio(testbed: Testbed, who: str, decision: str) -> None:
    samples, name = getattr(testbed, who), str(uuid.uuid4())
    url = f"ws://127.0.0.1:{testbed.service.port}/stream/twilio"
    signature = RequestValidator(TOKEN).compute_signature(url, {})
    sid = "MZ" + "1" * 32
    with opened(url, additional_headers={"X-Twilio-Signature": signature}) as connection:
        connection.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        start = {
            "streamSid": sid,
            "callSid": "CA" + "2" * 32,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"session": name, "speaker": "anna"},
        }
        connection.send(
            json.dumps({"event": "start", "sequenceNumber": "1", "streamSid": sid, "start": start})
        )
        data = mulaw(samples)
        for place in range(0, len(data), PIECE):
            testbed.wait_for_room(name, place)
            payload = base64.b64encode(data[place : place + PIECE]).decode()
            media = {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": payload}
            connection.send(json.dumps({"event": "media", "streamSid": sid, "media": media}))
        assert testbed.decision(name) == decision
        connection.send(json.dumps({"event": "stop", "streamSid": sid}))
        assert messages_until_closed(connection) == ([], 1000, "CALL_ENDED")


@WHO
def test_audiohook(testbed: Testbed, who: str, decision: str) -> None:
    name, session_id = str(uuid.uuid4()), str(uuid.uuid4())
    headers = {
        "Audiohook-Organization-Id": "d7934305-0972-4844-938e-9060eef73d05",
        "Audiohook-Session-Id": session_id,
        "X-API-KEY": API_KEY,
    }

    def message(kind: str, number: int, **parameters: Any) -> str:
        told = {"version": "2", "type": kind, "seq": number, "serverseq": number - 1, "id": session_id}
        return json.dumps({**told, "position": "PT0S", "parameters": parameters})

    with opened(
        f"ws://127.0.0.1:{testbed.service.port}/stream/audiohook", additional_headers=headers
    ) as connection:
        media = [{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}]
        organization = headers["Audiohook-Organization-Id"]
        connection.send(
            message(
                "open", 1, organizationId=organization, conversationId=name, media=media, language="en-US"
            )
        )
        assert json.loads(connection.recv(timeout=PATIENCE_S))["parameters"]["media"] == media
        testbed.service.own_client().update_session(**testbed.of(name), SpeakerId="anna")
        data = mulaw(getattr(testbed, who))
        for place in range(0, len(data), 1600):
            testbed.wait_for_room(name, place)
            connection.send(data[place : place + 1600])
        assert testbed.decision(name) == decision
        connection.send(message("close", 2, reason="end"))
        assert json.loads(connection.recv(timeout=PATIENCE_S))["type"] == "closed"


def _slow(*values: str) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "who", "decision"),
    [
        ("telnyx", "right", "ACCEPT"),
        ("vonage", "right", "ACCEPT"),
        *(_slow(name, "right", "ACCEPT") for name in PEERS if name not in ("telnyx", "vonage")),
        *(_slow(name, "other", "REJECT") for name in PEERS),
    ],
)
def test_carriers_by_their_documented_messages(testbed: Testbed, name: str, who: str, decision: str) -> None:
    peer, session = PEERS[name], str(uuid.uuid4())
    url = f"ws://127.0.0.1:{testbed.service.port}/stream/{name}"
    headers = dict(peer.headers)
    if name == "plivo":  # whose extra headers allow no dashes
        url += f"?session={session}&speaker=anna"
        headers["x-plivo-signature-v3"] = plivo_signature(SECRET, url, "nonce-1")
    named, samples = {"session": session, "speaker": "anna"}, getattr(testbed, who)
    with opened(url, additional_headers=headers) as connection:
        if isinstance(peer, MessagesPeer):
            encode = {"mulaw": mulaw, "alaw": alaw, "pcm_s16le": lambda samples: samples.tobytes()}
            connection.send(json.dumps(peer.start(named)))
            messages: list[str | bytes] = [
                json.dumps(
                    peer.media(
                        1 + place // PIECE,
                        base64.b64encode(encode[peer.encoding](samples[place : place + PIECE])).decode(),
                    )
                )
                for place in range(0, len(samples), PIECE)
            ]
        else:
            connection.send(json.dumps(peer.first(named)))
            frames = at_16_khz(samples) if name == "vonage" else samples
            size = PIECE * len(frames) // len(samples)
            messages = [frames[place : place + size].tobytes() for place in range(0, len(frames), size)]
        for number, message in enumerate(messages):
            testbed.wait_for_room(session, number * PIECE)
            connection.send(message)
        assert testbed.decision(session) == decision


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("asterisk", {}),
        ("asterisk", {"Authorization": "Basic cGJ4Ondyb25n"}),
        ("asterisk", {"Authorization": "Bearer x"}),
        ("twilio", {}),
        ("twilio", {"X-Twilio-Signature": "c2lnbmF0dXJl"}),
        ("audiohook", {"X-API-KEY": "another key of some length"}),
        ("telnyx", {}),
        ("plivo", {"X-Plivo-Signature-V3": "c2lnbmF0dXJl", "X-Plivo-Signature-V3-Nonce": "1"}),
        ("signalwire", {"X-SignalWire-Signature": "c2lnbmF0dXJl"}),
        ("exotel", {"Authorization": "Basic cGJ4Ondyb25n"}),
        ("vonage", {"Authorization": "Bearer x"}),
        ("jambonz", {}),
        ("freeswitch", {}),
        ("genesys", {}),
    ],
)
def test_unauthenticated_carriers_are_refused(testbed: Testbed, path: str, headers: dict[str, str]) -> None:
    url = f"ws://127.0.0.1:{testbed.service.port}/stream/{path}"
    with pytest.raises(InvalidStatus) as raised, opened(url, additional_headers=headers):
        pass
    passwords = ("asterisk", "exotel", "jambonz", "freeswitch")
    wanted = 404 if path == "genesys" else 401 if path in passwords else 403
    assert raised.value.response.status_code == wanted


def test_refused_carriers_are_in_the_audit_trail(testbed: Testbed) -> None:
    url = f"ws://127.0.0.1:{testbed.service.port}/stream/telnyx"
    for _ in range(5):
        with suppress(InvalidStatus), opened(url, additional_headers={"Authorization": "Bearer a guess"}):
            pass

    def shown() -> list[dict[str, Any]]:
        out = testbed.service.sonant("audit", "show", "--operation", "StreamAudio", "--json").out
        records = [json.loads(line) for line in out.splitlines()]
        return [one for one in records if one.get("additionalEventData", {}).get("carrier") == "telnyx"]

    first, *more = wait_until("it is recorded", shown, look_s=ASK_S) or []
    assert more == [], "the flood is summed later"
    assert first["additionalEventData"] == {"carrier": "telnyx", "reason": "AUTHENTICATION"}
    assert (first["sourceIPAddress"], first["userIdentity"]["type"]) == ("127.0.0.1", "Unknown")
    assert first["errorMessage"] == "The token is not the one that was set."
    assert "a guess" not in json.dumps(first)


def test_strangers_at_the_own_websocket_are_summed(testbed: Testbed) -> None:
    query = "X-Amz-Credential=AKIAGUESS/20260101/us-east-1/voiceid/aws4_request&X-Amz-Signature=00"
    url = f"ws://127.0.0.1:{testbed.service.port}/stream?{query}"
    for _ in range(5):
        with suppress(InvalidStatus), opened(url):
            pass

    def shown() -> list[dict[str, Any]]:
        out = testbed.service.sonant("audit", "show", "--operation", "StreamAudio", "--json").out
        records = [json.loads(line) for line in out.splitlines()]
        return [one for one in records if one.get("additionalEventData", {}).get("carrier") == "websocket"]

    first, *more = wait_until("it is recorded", shown, look_s=ASK_S) or []
    assert more == [], "the flood is summed later"
    assert first["additionalEventData"] == {"carrier": "websocket", "reason": "AUTHENTICATION"}
    assert first["userIdentity"] == {"type": "Unknown", "accessKeyId": "AKIAGUESS"}


def test_audiosocket_without_uuid_is_hung_up(testbed: Testbed) -> None:
    with socket.create_connection(("127.0.0.1", testbed.audiosocket_port), timeout=PATIENCE_S) as line:
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert line.recv(16) == b"\x00\x00\x00", "a hang-up"
        assert line.recv(16) == b""


def test_audiosocket_for_a_session_in_use_is_hung_up(testbed: Testbed) -> None:
    call = uuid.uuid4()
    with audiosocket(testbed.audiosocket_port, call.bytes) as first:
        first.sendall(b"\x10\x01\x40" + bytes(320))

        def ongoing() -> bool:
            with suppress(ClientError):  # not begun yet
                return bool(testbed.session(str(call))["StreamingStatus"] == "ONGOING")
            return False

        wait_until("the first is ongoing", ongoing)
        first.sendall(b"\x10\x01\x40" + bytes(320))  # it lives: one that is silent would give way
        with audiosocket(testbed.audiosocket_port, call.bytes) as second:
            assert second.recv(16) == b"\x00\x00\x00"
        assert testbed.session(str(call))["StreamingStatus"] == "ONGOING"


def test_audit_trail_names_the_carrier(testbed: Testbed) -> None:
    call = uuid.uuid4()
    with audiosocket(testbed.audiosocket_port, call.bytes) as line:
        line.sendall(b"\x10\x01\x40" + bytes(320) + b"\x00\x00\x00")
        assert line.recv(16) == b""
    shown = testbed.service.sonant("audit", "show", "--operation", "StreamAudio", "--json").out
    (record,) = [one for one in map(json.loads, shown.splitlines()) if str(call) in json.dumps(one)]
    assert record["userIdentity"]["type"] == "AWSService"
    assert record["userIdentity"]["arn"] == "arn:aws:iam::000000000000:carrier/audiosocket"
    assert record["requestParameters"] == {"domainId": testbed.domain_id, "sessionNameOrId": str(call)}


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _wav(samples: Samples) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 8000, 0, "NONE", ""))
        written.writeframes(samples.tobytes())
    return file.getvalue()
