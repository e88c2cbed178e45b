"""Stream requests: URLs, content types, limits and the carriers that are configured."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields
from importlib import import_module

import pytest

from sonant.carriers import providers
from sonant.carriers.carrier import TcpCarrier
from sonant.carriers.encoding import AudioFormat
from sonant.carriers.limits import MAX_RECORDINGS, ConnectionLimiter
from sonant.carriers.registry import CARRIERS, configured_carriers
from sonant.carriers.request import StreamParameters, StreamRequest, declared_hash
from sonant.carriers.tcp import TcpServer
from sonant.carriers.upload import format_of
from sonant.errors import InvalidSignature, SetupError, Throttling, Validation
from sonant.gateway.models import load_models
from sonant.gateway.validation import compile_input
from sonant.settings import Live, Settings
from sonant.settings.listing import carrier_settings
from sonant.storage.times import now

DOMAIN = "d" * 22
NAMED = compile_input(load_models().find("VoiceID.EvaluateSession").input_shape)


def request(query: str = "", **headers: str) -> StreamRequest:
    return StreamRequest(
        method="GET",
        raw_path=b"/stream",
        query=query.encode(),
        headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        source_ip="127.0.0.1",
        secure=False,
        received_at=now(),
    )


def asked(query: str) -> StreamParameters:
    return StreamParameters.parse(request(query).parameters(), NAMED)


def test_url_names_session_and_audio_format():
    assert asked(f"DomainId={DOMAIN}&SessionNameOrId=call-1&X-Amz-Date=x") == StreamParameters(
        domain_id=DOMAIN, session="call-1", format=AudioFormat()
    )
    found = asked(
        f"SessionNameOrId=id%23{'s' * 22}&DomainId={DOMAIN}"
        "&Encoding=alaw&SampleRate=16000&Channels=2&Channel=1"
    )
    assert found.session == "id#" + "s" * 22
    assert found.format == AudioFormat(encoding="alaw", rate_hz=16000, channels=2, channel=1)


@pytest.mark.parametrize(
    "query",
    [
        "",
        f"DomainId={DOMAIN}",
        "SessionNameOrId=call-1",
        f"DomainId={DOMAIN}&SessionNameOrId=-no",
        "DomainId=short&SessionNameOrId=call-1",
        f"DomainId={DOMAIN}&SessionNameOrId=a&Encoding=opus",
        f"DomainId={DOMAIN}&SessionNameOrId=a&SampleRate=44100",
        f"DomainId={DOMAIN}&SessionNameOrId=a&SampleRate=8e3",
        f"DomainId={DOMAIN}&SessionNameOrId=a&SampleRate={'9' * 5000}",
        f"DomainId={DOMAIN}&SessionNameOrId=a&Channels=3",
        f"DomainId={DOMAIN}&SessionNameOrId=a&Channel=1",
        f"DomainId={DOMAIN}&SessionNameOrId=a&Channels=2&Channel=-1",
        f"DomainId={DOMAIN}&SessionNameOrId=a&SessionNameOrId=b",
        f"DomainId={DOMAIN}&SessionNameOrId=a&Rate=8000",
    ],
)
def test_invalid_url_is_refused(query):
    with pytest.raises(Validation):
        asked(query)


@pytest.mark.parametrize(
    ("content_type", "audio_format"),
    [
        # RFC 2586 and 3551: L16 is in network byte order.
        ("audio/L16; rate=8000", AudioFormat(encoding="pcm_s16be")),
        ("AUDIO/l16;rate=16000;channels=2", AudioFormat(encoding="pcm_s16be", rate_hz=16000, channels=2)),
        ("audio/L16; rate=8000; endianness=little-endian", AudioFormat(encoding="pcm_s16le")),
        ("audio/basic", AudioFormat(encoding="mulaw")),
        ("audio/x-mulaw", AudioFormat(encoding="mulaw")),
        ("audio/PCMU; rate=16000", AudioFormat(encoding="mulaw", rate_hz=16000)),
        ("audio/PCMA", AudioFormat(encoding="alaw")),
        ("audio/wav", None),
        ("audio/x-wav; codecs=1", None),
        ("audio/flac", None),
    ],
)
def test_content_type_names_the_audio_format(content_type, audio_format):
    assert format_of(content_type.encode()) == audio_format


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "audio/L16",
        "audio/L16; rate=44100",
        "audio/L16; rate=x",
        "audio/L16; rate=8000; channels=3",
        "audio/opus",
        "audio/\xff",
        "audio/wav" + " " * 300,
    ],
)
def test_unsupported_content_type_is_refused(content_type):
    with pytest.raises(Validation):
        format_of(content_type.encode("latin-1"))


def test_body_hash_is_declared_in_the_header_or_unsigned():
    assert declared_hash(request(x_amz_content_sha256="UNSIGNED-PAYLOAD")) == b"UNSIGNED-PAYLOAD"
    assert declared_hash(request(x_amz_content_sha256="0a" * 32)) == b"0a" * 32
    for wrong in ("", "0A" * 32, "0a" * 31, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        with pytest.raises(InvalidSignature):
            declared_hash(request(x_amz_content_sha256=wrong))


def test_connections_are_limited_in_all_and_for_each_account():
    limiter = ConnectionLimiter(3, 2)
    with limiter.acquire() as one, limiter.acquire() as two:
        one.assign("a")
        two.assign("a")
        with limiter.acquire() as three, pytest.raises(Throttling):
            three.assign("a")
        with limiter.acquire() as three:
            three.assign("b")
            with pytest.raises(Throttling):
                limiter.acquire()
    assert limiter.in_use == 0
    with limiter.acquire() as one:
        one.assign("a")


def test_an_account_leaves_room_for_a_recording_of_another():
    limiter = ConnectionLimiter(10, 10)
    with ExitStack() as stack:

        def assign(account):
            stack.enter_context(slot := limiter.acquire()).assign(account, recording=True)
            return slot

        slots = [assign("a") for _ in range(MAX_RECORDINGS - 1)]
        with pytest.raises(Throttling, match="as many uploaded recordings"):
            assign("a")
        assign("b")
        with pytest.raises(Throttling):
            assign("c")
    assert (limiter.in_use, limiter.recordings.taken) == (0, 0)
    with pytest.raises(Throttling, match="has ended"):
        slots[0].assign("a")  # by a thread that was late


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"asterisk_user": "pbx", "asterisk_password": "short"}, "asterisk_password"),
        ({"asterisk_user": "pbx"}, "asterisk_password"),
        ({"asterisk_password": "long enough to be one"}, "asterisk_user"),
        ({"asterisk_user": "a:b", "asterisk_password": "long enough to be one"}, "asterisk_user"),
        ({"twilio_token": "short"}, "twilio_token"),
        ({"audiohook_key": "short"}, "audiohook_key"),
        ({"audiohook_secret": "bG9uZyBlbm91Z2ggdG8gYmUgb25l"}, "audiohook_key"),
    ],
)
def test_guessable_carrier_password_is_refused_at_start(given, says):
    with pytest.raises(SetupError, match=says):
        configured_carriers(Settings(carriers=given))


def test_only_configured_carriers_are_built():
    assert configured_carriers(Settings()) == {}
    settings = Settings(carriers={"asterisk_user": "pbx", "asterisk_password": "long enough to be one"})
    assert list(configured_carriers(settings)) == ["asterisk"]


@pytest.mark.parametrize("name", CARRIERS)
def test_settings_of_a_carrier_begin_with_its_name(name):
    declared = import_module(f"{providers.__name__}.{name}").SETTINGS
    assert all(one.name.startswith(f"{name}_") for one in fields(declared))
    assert {f"live.{one.name}" for one in fields(declared)} <= carrier_settings().keys()


def test_audiosocket_needs_a_domain():
    assert CARRIERS["audiosocket"](Settings()) is None
    with pytest.raises(SetupError, match=r"live\.domain"):
        configured_carriers(Settings(carriers={"audiosocket_port": 1}))


def test_port_that_is_taken_is_refused_with_its_setting():
    with socket.socket() as taken, ThreadPoolExecutor(1) as threads:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = {"audiosocket_port": taken.getsockname()[1]}
        settings = Settings(live=Live(domain=DOMAIN), carriers=given)
        carrier = configured_carriers(settings)["audiosocket"]
        assert isinstance(carrier, TcpCarrier)
        with pytest.raises(SetupError, match=r"set live\.audiosocket_port"):
            TcpServer(carrier, "127.0.0.1", "0" * 12, pytest.fail, ConnectionLimiter(1, 1), threads)
