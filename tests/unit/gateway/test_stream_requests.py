"""What a URL and a Content-Type say of audio, and how many may bring it."""

from __future__ import annotations

import pytest

from sonant.carriers.audiosocket_server import bind
from sonant.carriers.limits import ConnectionLimiter
from sonant.carriers.own import AudioForm
from sonant.carriers.registry import carriers
from sonant.carriers.request import StreamParameters, StreamRequest, declared_hash
from sonant.carriers.uploads import form_of
from sonant.errors import InvalidSignature, SetupError, Throttling, Validation
from sonant.gateway.models import load_models
from sonant.gateway.validation import compile_input
from sonant.settings import Live, Settings
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
    )


def asked(query: str) -> StreamParameters:
    return StreamParameters.parse(request(query).parameters(), NAMED)


def test_a_url_names_the_session_and_the_form_of_its_audio():
    assert asked(f"DomainId={DOMAIN}&SessionNameOrId=call-1&X-Amz-Date=x") == StreamParameters(
        domain_id=DOMAIN, session="call-1", form=AudioForm()
    )
    found = asked(
        f"SessionNameOrId=id%23{'s' * 22}&DomainId={DOMAIN}"
        "&Encoding=alaw&SampleRate=16000&Channels=2&Channel=1"
    )
    assert found.session == "id#" + "s" * 22
    assert found.form == AudioForm(encoding="alaw", rate_hz=16000, channels=2, channel=1)


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
def test_a_url_that_says_anything_else_is_refused(query):
    with pytest.raises(Validation):
        asked(query)


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        # RFC 2586 and 3551: L16 is in network byte order.
        ("audio/L16; rate=8000", AudioForm(encoding="pcm_s16be")),
        ("AUDIO/l16;rate=16000;channels=2", AudioForm(encoding="pcm_s16be", rate_hz=16000, channels=2)),
        ("audio/L16; rate=8000; endianness=little-endian", AudioForm(encoding="pcm_s16le")),
        ("audio/basic", AudioForm(encoding="mulaw")),
        ("audio/x-mulaw", AudioForm(encoding="mulaw")),
        ("audio/PCMU; rate=16000", AudioForm(encoding="mulaw", rate_hz=16000)),
        ("audio/PCMA", AudioForm(encoding="alaw")),
        ("audio/wav", None),
        ("audio/x-wav; codecs=1", None),
        ("audio/flac", None),
    ],
)
def test_a_content_type_says_the_form(content_type, form):
    assert form_of(content_type.encode()) == form


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
def test_other_content_types_are_refused(content_type):
    with pytest.raises(Validation):
        form_of(content_type.encode("latin-1"))


def test_a_body_that_is_yet_to_come_has_its_hash_in_the_header_or_none():
    assert declared_hash(request(x_amz_content_sha256="UNSIGNED-PAYLOAD")) == b"UNSIGNED-PAYLOAD"
    assert declared_hash(request(x_amz_content_sha256="0a" * 32)) == b"0a" * 32
    for wrong in ("", "0A" * 32, "0a" * 31, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        with pytest.raises(InvalidSignature):
            declared_hash(request(x_amz_content_sha256=wrong))


def test_places_are_counted_for_the_process_and_for_each_account():
    places = ConnectionLimiter(3, 2)
    with places.visit() as one, places.visit() as two:
        one.name("a")
        two.name("a")
        with places.visit() as three, pytest.raises(Throttling):
            three.name("a")
        with places.visit() as three:
            three.name("b")
            with pytest.raises(Throttling):
                places.visit()
    assert places.taken == 0
    with places.visit() as one:
        one.name("a")


@pytest.mark.parametrize(
    ("live", "says"),
    [
        (Live(asterisk_user="pbx", asterisk_password="short"), "asterisk_password"),
        (Live(asterisk_user="pbx"), "asterisk_password"),
        (Live(asterisk_password="long enough to be one"), "asterisk_user"),
        (Live(asterisk_user="a:b", asterisk_password="long enough to be one"), "asterisk_user"),
        (Live(twilio_token="short"), "twilio_token"),
        (Live(audiohook_key="short"), "audiohook_key"),
        (Live(audiohook_secret="bG9uZyBlbm91Z2ggdG8gYmUgb25l"), "audiohook_key"),
    ],
)
def test_a_carrier_that_anybody_could_pass_for_is_refused_at_the_start(live, says):
    with pytest.raises(SetupError, match=says):
        carriers(Settings(live=live), now)


def test_carriers_that_are_not_set_up_have_no_route():
    assert carriers(Settings(), now) == []
    live = Live(asterisk_user="pbx", asterisk_password="long enough to be one")
    assert [carrier.name for carrier in carriers(Settings(live=live), now)] == ["asterisk"]


def test_audiosocket_needs_a_domain_and_a_free_port():
    assert bind(Settings()) is None
    with pytest.raises(SetupError, match=r"live\.domain"):
        bind(Settings(live=Live(audiosocket_port=1)))
