"""SIPREC: messages, session descriptions, metadata, RTP, and a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from aws_servers import free_port
from carried_calls import mulaw
from hypothesis import given
from hypothesis import strategies as st
from recording_client import AGENT, CUSTOMER, FRAME, RecordingClient, metadata, multipart, offer, rtp
from waiting import PATIENCE_S, wait_until

from sonant.carriers.limits import ConnectionLimiter
from sonant.carriers.providers.siprec import carrier
from sonant.carriers.servers import ServerCarrier, ServerContext
from sonant.carriers.siprec import server
from sonant.carriers.siprec.message import SipFault, body_length, parse, parts_of, respond
from sonant.carriers.siprec.metadata import Metadata, parse_metadata
from sonant.carriers.siprec.rtp import MOST_SILENCE, RtpReceiver
from sonant.carriers.siprec.sdp import answer, parse_offer
from sonant.carriers.tcp import TcpCaller
from sonant.errors import ResourceNotFound, SetupError
from sonant.gateway.connections import UNLIMITED, ConnectionTable
from sonant.sessions.calls import EndReason
from sonant.sessions.stream import Stream
from sonant.settings import Live, Settings

DOMAIN = "d" * 22
SESSION = "ab30317f1a784dc48ff824d0d3715d86"
INVITE = (
    b"INVITE sip:srs@example.com SIP/2.0\r\nv: SIP/2.0/UDP sbc.example.com:5070;branch=z9hG4bKa;rport, "
    b'SIP/2.0/UDP inner.example.com;branch=z9hG4bKb\r\nf: "a;tag=no" <sip:src@example.com>;tag=one\r\n'
    b"t: <sip:srs@example.com>\r\ni: call-1\r\nCSeq: 7  INVITE\r\nk: timer,\r\n siprec\r\n"
    b"l: 2\r\n\r\nok and more"
)


# --- messages


def test_request_in_compact_form_is_parsed() -> None:
    found = parse(INVITE)
    assert (found.method, found.cseq, found.call_id, found.from_tag, found.to_tag, found.body) == (
        "INVITE", 7, "call-1", "one", "", b"ok",
    )  # fmt: skip
    assert found.options("supported") == {"timer", "siprec"}
    assert found.transaction == ("z9hG4bKa", "sbc.example.com:5070", "call-1", "7 INVITE")


def test_response_has_the_way_back_and_a_tag() -> None:
    told = parse(respond(parse(INVITE), 488, to_tag="mine", source=("192.0.2.7", 4711)))
    assert told.status == 488
    assert told.to_tag == "mine"
    assert told.header("via").startswith(
        "SIP/2.0/UDP sbc.example.com:5070;branch=z9hG4bKa;rport=4711;received=192.0.2.7, SIP/2.0/UDP inner"
    )


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        INVITE.replace(b"l: 2", b"l: 99999999999"),
        INVITE.replace(b"l: 2", b"l: 20"),
        INVITE.replace(b"l: 2", b"l: 2\r\nl: 3"),
        INVITE.replace(b"call-1", b"call\n-1"),
        INVITE.replace(b"7  INVITE", b"7 BYE"),
        INVITE.replace(b"7  INVITE", b"4294967296 INVITE"),
        INVITE.replace(b"i: call-1\r\n", b""),
        INVITE.replace(b"call-1", b"\xff"),
        INVITE.replace(b"call-1", b"c" * 3000),
        INVITE.replace(b"\r\nl: 2", b"\r\na: b" * 200),
    ],
)
def test_hostile_message_is_refused(hostile: bytes) -> None:
    with pytest.raises(SipFault):
        parse(hostile)


def test_parts_are_found_by_their_type() -> None:
    kind, body = multipart(("application/sdp", "v=0"), ("Application/RS-Metadata+XML; a=b", "<a/>"))
    message = parse(INVITE.partition(b"\r\nl:")[0] + f"\r\nc: {kind}\r\n\r\n".encode() + body)
    assert parts_of(message) == {"application/sdp": b"v=0", "application/rs-metadata+xml": b"<a/>"}


PIECES = st.sampled_from(
    [
        INVITE, b"\r\n", b"\r\n\r\n", b"--part", b"boundary=part", b"c: multipart/mixed;boundary=part\r\n",
        b":", b";",
        b'"', b"\\", b"v=0\r\n", b"m=audio 9 RTP/AVP 0\r\n", b"a=label:1\r\n", b"c=IN IP4 1.2.3.4\r\n",
        b"<a>", b"</a>",
        b"<recording><stream stream_id='a'>", b"&#0;", b"<!DOCTYPE a>",
        metadata(SESSION).encode(), b"SIP/2.0 200 OK",
    ]
)  # fmt: skip
HOSTILE = st.one_of(
    st.binary(max_size=400), st.lists(PIECES | st.binary(max_size=8), max_size=8).map(b"".join)
)


@given(HOSTILE)
def test_parsers_raise_their_own_faults_only(data: bytes) -> None:
    for read in (lambda: parts_of(parse(data)), lambda: parse_offer(data), lambda: parse_metadata(data)):
        with contextlib.suppress(SipFault):
            read()
    with contextlib.suppress(SipFault):
        body_length(data)
    RtpReceiver(0, "mulaw", lambda _: None).receive(data)


# --- session descriptions


def test_answer_receives_the_streams_that_can_be_decoded() -> None:
    given = (
        offer([4000, 4002])
        + "m=video 4004 RTP/AVP 96\r\nm=audio 4006 RTP/SAVP 0\r\nm=audio 4008 RTP/AVP 18\r\n"
    )
    streams = parse_offer(given.encode())
    assert [one.usable for one in streams] == [True, True, False, False, False]
    lines = answer(streams, [30000, 30002, 0, 0, 0], "192.0.2.1", 3).decode().splitlines()
    assert [line for line in lines if line.startswith("m=")] == [
        "m=audio 30000 RTP/AVP 0", "m=audio 30002 RTP/AVP 0", "m=video 0 RTP/AVP 96", "m=audio 0 RTP/SAVP 0",
        "m=audio 0 RTP/AVP 18",
    ]  # fmt: skip
    assert [line for line in lines if line.startswith("a=label")] == ["a=label:1", "a=label:2"]
    assert lines.count("a=recvonly") == 2


# --- metadata


def test_customer_is_the_first_who_is_no_agent() -> None:
    known = parse_metadata(metadata(SESSION).encode())
    assert known.session_ids == (SESSION, "hVpd7YQgRW2nD22h7q60JQ==")
    assert known.customer("") == "p1"
    assert known.customer("sip:[^@]*@callers.example.com|sip:.anna@.*") == "p2"
    assert known.customer(".*") == ""
    assert known.labels_of("p2") == {"2"}
    assert known.participants["p1"].user == "anna"
    assert known.participants["p1"].texts == {"name": "Anna", "customerId": "anna"}
    assert (known.participants["p1"].aor, known.participants["p2"].aor) == (CUSTOMER, AGENT)


def test_partial_metadata_adds_to_what_is_known() -> None:
    known = parse_metadata(metadata(SESSION).encode())
    part = (
        b"<recording><datamode>partial</datamode><stream stream_id='s1'><label>9</label></stream></recording>"
    )
    later = parse_metadata(part, known)
    assert later.labels_of("p1") == {"9"}
    assert later.labels_of("p2") == {"2"}
    assert parse_metadata(part.replace(b"partial", b"complete"), known).participants == {}


@pytest.mark.parametrize(
    "hostile",
    [
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><recording>&b;</recording>",
        b"<!DOCTYPE recording SYSTEM 'http://192.0.2.1/a'><recording/>",
        b"<a>" * 40 + b"</a>" * 40,
        b"<recording>" + b"<a/>" * 3000 + b"</recording>",
        b"<recording>",
        b"<other/>",
        b"\x00",
    ],
)
def test_hostile_metadata_is_refused(hostile: bytes) -> None:
    with pytest.raises(SipFault):
        parse_metadata(hostile, Metadata())


# --- RTP


def received(*packets: bytes) -> list[int]:
    """The values of the frames that come out, each once, 0 for silence."""
    found: list[np.ndarray[Any, Any]] = []
    receiver = RtpReceiver(0, "mulaw", found.append)
    for packet in packets:
        receiver.receive(packet)
    receiver.flush()
    return [int(frame[0]) // 1000 for frame in found for _ in range(0, len(frame), FRAME)]


def packet(number: int, value: int, **how: int) -> bytes:
    return rtp(number, mulaw(np.full(FRAME, value * 1000 + 500, np.int16)), **how)


def test_packets_are_put_in_order_and_lost_ones_are_silent() -> None:
    assert received(*(packet(number, number - 65533) for number in (65534, 65536, 65535, 65535, 65538))) == [
        *(1, 2, 3, 0, 5)
    ]


def test_new_source_and_other_packets_are_told_apart() -> None:
    report = b"\x80\xc8" + packet(2, 9)[2:]
    event = packet(3, 9, kind=101)
    assert received(packet(1, 1), report, event, packet(900, 7, source=8), packet(901, 8, source=8)) == [
        1,
        7,
        8,
    ]


def test_silence_of_a_pause_is_bounded() -> None:
    after = received(packet(1, 1), packet(2, 2, stamp=120 * 8000))
    assert after == [1, *[0] * (MOST_SILENCE // FRAME), 2]


# --- settings


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"siprec_host": "0.0.0.0", "siprec_address": "192.0.2.1"}, "siprec_peers"),
        ({"siprec_host": "0.0.0.0", "siprec_peers": "192.0.2.0/24"}, "siprec_address"),
        ({"siprec_host": "example.com"}, "siprec_host"),
        ({"siprec_peers": "all"}, "siprec_peers"),
        ({"siprec_agents": "("}, "siprec_agents"),
        ({"siprec_rtp_first_port": 65000}, "siprec_rtp_ports"),
    ],
)
def test_unsafe_settings_are_refused_at_start(wrong: dict[str, Any], says: str) -> None:
    assert carrier(Settings(carriers=wrong)) is None
    with pytest.raises(SetupError, match=says):
        carrier(Settings(live=Live(domain=DOMAIN), carriers={"siprec_port": 5060, **wrong}))


def test_siprec_needs_a_domain() -> None:
    with pytest.raises(SetupError, match=r"live\.domain"):
        carrier(Settings(carriers={"siprec_port": 5060}))


# --- a server


class Served:
    """A server in a thread, whose streams nobody listens to."""

    def __init__(self, *, most: int = 4, **settings: Any) -> None:
        self.port = free_port()
        self.opened: list[tuple[Any, Stream]] = []
        self.refused: list[tuple[Any, Any]] = []
        self.error: Exception | None = None
        given = {"siprec_port": self.port, "siprec_rtp_ports": 40, **settings}
        built = carrier(Settings(live=Live(domain=DOMAIN), carriers=given))
        assert isinstance(built, ServerCarrier)
        self.limiter, self._threads = ConnectionLimiter(most, most), ThreadPoolExecutor(2)
        self._server = built.make_server(
            ServerContext(
                account_id="0" * 12,
                caller_of=lambda _: TcpCaller(
                    self._open, lambda reason, error: self.refused.append((reason, error))
                ),
                limiter=self.limiter,
                threads=self._threads,
                connections=ConnectionTable(UNLIMITED),
            )
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(self._server.start())

    def _open(self, call: Any) -> Stream:
        if self.error is not None:
            raise self.error
        self.opened.append((call, Stream("id#" + "s" * 22, lambda: datetime.now(UTC), lambda: None)))
        return self.opened[-1][1]

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._threads.shutdown()


@pytest.fixture
def served() -> Any:
    with Served(siprec_agents="sip:.*@agents.example.com", siprec_speaker="user") as running:
        yield running


@pytest.mark.parametrize("tcp", [False, True])
def test_call_brings_the_customers_stream_alone(served: Served, tcp: bool) -> None:
    with RecordingClient(served.port, tcp=tcp) as client:
        told = client.begin(SESSION, first=AGENT, second=CUSTOMER)
        assert told.status == 200, told
        assert told.body.count("a=recvonly") == 2
        ((call, stream),) = served.opened
        assert (call.session, call.speaker_id, call.domain_id) == (SESSION, "anna", DOMAIN)
        for _ in range(30):
            client.speak(b"\xff" * FRAME, b"\x80" * FRAME)
        wait_until("it is received", lambda: stream.room_s < 9.5)
        assert client.ask("OPTIONS").status == 200
        assert client.ask("BYE").status == 200
        wait_until("it ended", lambda: stream.end_reason is not None)
        assert stream.end_reason == EndReason.CALL_ENDED
        assert set(stream.take().tolist()) == {32124}, "the agent's stream is not heard"
        assert client.ask("BYE").status == 481
    wait_until("the slot is free", lambda: served.limiter.in_use == 0)


def test_hold_and_later_metadata_are_answered(served: Served) -> None:
    with RecordingClient(served.port) as client:
        client.begin(SESSION)
        held = client.ask(
            "INVITE", "application/sdp", offer(client.ports, direction="inactive", version=2).encode()
        )
        assert (held.status, held.body.count("a=inactive")) == (200, 2)
        part = "<recording><datamode>partial</datamode></recording>"
        assert client.ask("UPDATE", "application/rs-metadata+xml", part.encode()).status == 200
        again = client.ask("INVITE", "application/sdp", offer(client.ports, version=3).encode())
        assert again.body.count("a=recvonly") == 2
        ((_, stream),) = served.opened
        client.speak_all(b"\x80" * FRAME * 30, b"\xff" * FRAME * 30)
        wait_until("it is received", lambda: stream.room_s < 9.5)
        stream.stop(EndReason.REQUESTED)
        assert client.receive().first.startswith("BYE sip:src@")


def test_repeated_requests_are_answered_alike(served: Served) -> None:
    with RecordingClient(served.port) as client:
        body = multipart(
            ("application/sdp", offer(client.ports)), ("application/rs-metadata+xml", metadata(SESSION))
        )
        client.send("INVITE", *body)
        first = client.final()
        client.send("INVITE", *body, again=True)
        assert client.final() == first
        assert client.final() == first, "it is repeated until it is acknowledged"
        assert len(served.opened) == 1


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"require": "100rel"}, 420),
        ({"require": "", "kind": "application/sdp"}, 421),
        ({"kind": "application/sdp"}, 488),
        ({"kind": "text/plain"}, 415),
        ({"method": "REFER"}, 405),
        ({"method": "UPDATE"}, 481),
        ({"method": "CANCEL"}, 481),
        ({"extra": "Session-Expires: 10"}, 422),
        ({"video": True}, 488),
    ],
)
def test_refusals_say_why_and_are_recorded(served: Served, how: dict[str, Any], status: int) -> None:
    given = dict(how)
    with RecordingClient(served.port) as client:
        how = dict(given)
        kind, body = how.pop("kind", ""), offer(client.ports).encode()
        if not kind:
            described = (
                body.decode().replace("m=audio", "m=video") if how.pop("video", False) else body.decode()
            )
            kind, body = multipart(
                ("application/sdp", described), ("application/rs-metadata+xml", metadata("a"))
            )
        told = client.ask(how.pop("method", "INVITE"), kind, body, **how)
        assert told.status == status
        assert told.headers["warning"].startswith("399 sonant ")
        assert served.opened == []
        assert len(served.refused) == (0 if "method" in given else 1)
        assert client.ask("OPTIONS").status == 200


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends nothing is asked for a sign of life after a moment."""
    monkeypatch.setattr(server, "PROBE_S", 0.3)
    monkeypatch.setattr(server, "WATCH_S", 0.05)


def test_pause_of_a_client_that_answers_goes_on(soon: None, served: Served) -> None:
    with RecordingClient(served.port) as client:
        client.begin(SESSION)
        for _ in range(3):
            probe = client.receive()
            assert probe.first.startswith("OPTIONS sip:src@")
            client.respond(probe)
        ((_, stream),) = served.opened
        assert stream.end_reason is None
        client.speak_all(b"\x80" * FRAME * 30, b"\xff" * FRAME * 30)
        wait_until("it is received", lambda: stream.room_s < 9.5)


def test_client_that_is_gone_ends_its_call(soon: None, served: Served) -> None:
    with RecordingClient(served.port) as client:
        client.begin(SESSION)
        ((_, stream),) = served.opened
        wait_until("it ended", lambda: stream.end_reason is not None)
        assert stream.end_reason == EndReason.DISCONNECTED
    wait_until("the slot is free", lambda: served.limiter.in_use == 0)


def test_packets_from_elsewhere_are_not_heard(served: Served) -> None:
    with RecordingClient(served.port) as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        client.begin(SESSION)
        ((_, stream),) = served.opened
        client.speak_all(b"\x80" * FRAME * 30, b"\xff" * FRAME * 30)
        wait_until("it is received", lambda: stream.waiting_s > 0.5)
        for number in range(30, 60):
            other.sendto(rtp(number, b"\x00" * FRAME), ("127.0.0.1", client.answered[0]))
        client.speak_all(b"\x80" * FRAME * 10, b"\xff" * FRAME * 10)
        assert client.ask("BYE").status == 200
        wait_until("it ended", lambda: stream.end_reason is not None)
        assert set(stream.take().tolist()) == {32124}


def test_call_that_cannot_be_opened_is_refused(served: Served) -> None:
    served.error = ResourceNotFound("domain")
    with RecordingClient(served.port) as client:
        told = client.begin(SESSION)
        assert told.status == 404
        assert told.headers["warning"] == '399 sonant "The requested domain does not exist"'
    wait_until("the slot is free", lambda: served.limiter.in_use == 0)


def test_calls_beyond_the_limit_are_refused() -> None:
    with Served(most=1) as served, RecordingClient(served.port) as one, RecordingClient(served.port) as two:
        assert one.begin("a").status == 200
        told = two.begin("b")
        assert (told.status, told.headers["retry-after"]) == (503, "10")


def test_other_addresses_are_not_served() -> None:
    with Served(siprec_peers="192.0.2.0/24") as served, RecordingClient(served.port) as client:
        client.send("OPTIONS")
        wait_until("it is recorded", lambda: served.refused)
        assert served.refused[0][0] == "AUTHENTICATION"
