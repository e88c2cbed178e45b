"""SigV4 verification by property, with two independent signers, botocore and awscrt, as oracles: whatever
they sign is accepted, and is refused once any one thing about it is changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest import mock
from urllib.parse import quote

import awscrt.auth
import awscrt.http
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import PATIENCE_S

from sonant.errors import GatewayError
from sonant.gateway.canonical import canonical_path
from sonant.gateway.signature import Credential, SignedRequest, Verifier

HOST = "voice.example.com:8180"
SEEN_AS_IS = st.characters(codec="ascii", exclude_categories=["C"])
TOKENS = st.text(st.sampled_from("abcXYZ0123456789/+="), min_size=1, max_size=40)
SEGMENTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
MOMENTS = st.integers(0, 4_000_000_000).map(lambda s: datetime(1971, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
FAST = settings(max_examples=settings().max_examples // 2)


@st.composite
def requests(draw):
    """(path, query, headers, body, credential, moment): what a signer is given."""
    segments = draw(st.lists(SEGMENTS | st.sampled_from(["", ".", ".."]), max_size=4))
    path = "/" + "/".join(quote(segment, safe="-_.~") for segment in segments)
    query = draw(st.dictionaries(WORDS.filter(bool), WORDS, max_size=4))
    names = st.from_regex(r"x-[a-z]{1,8}", fullmatch=True).filter(lambda name: not name.startswith("x-amz"))
    values = st.text(SEEN_AS_IS, max_size=30).map(str.strip)
    headers = draw(st.dictionaries(names, values, max_size=4))
    if draw(st.booleans()):
        headers["x-amz-target"] = "VoiceID.DescribeDomain"
    credential = Credential(
        draw(st.from_regex(r"[A-Z0-9]{16,20}", fullmatch=True)),
        draw(st.text(SEEN_AS_IS, min_size=1, max_size=40)),
        draw(st.none() | TOKENS),
    )
    body = draw(st.binary(max_size=200))
    return path, query, headers, body, credential, draw(MOMENTS)


def encoded(query):
    return "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items()
    )


def by_botocore(path, query, headers, body, credential, moment, expires=None):
    url = f"http://{HOST}{path}" + (f"?{encoded(query)}" if query else "")
    request = AWSRequest("POST", url, headers=headers, data=body)
    keys = Credentials(credential.access_key_id, credential.secret, credential.session_token)
    with mock.patch("botocore.auth.get_current_datetime", lambda: moment):
        if expires is None:
            SigV4Auth(keys, "voiceid", "us-east-1").add_auth(request)
        else:
            # The body would become query parameters: AWS's form posts, which no JSON service has.
            request.data = b""
            SigV4QueryAuth(keys, "voiceid", "us-east-1", expires=expires).add_auth(request)
            body = b""
    _, _, query_string = request.url.partition("?")
    arrived = [(b"host", HOST.encode())]
    arrived += [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    return SignedRequest("POST", path.encode(), query_string.encode(), arrived, body)


class Body:
    """What awscrt reads a body from."""

    def __init__(self, data):
        self._data, self._at = data, 0

    def read(self, size):
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def readinto(self, view):
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def seek(self, offset, whence=0):
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def tell(self):
        return self._at


def by_awscrt(path, query, headers, body, credential, moment, expires=None):
    target = path + (f"?{encoded(query)}" if query else "")
    request = awscrt.http.HttpRequest(
        "POST", target, awscrt.http.HttpHeaders([("host", HOST), *headers.items()]), Body(body)
    )
    kind = awscrt.auth.AwsSignatureType
    config = awscrt.auth.AwsSigningConfig(
        algorithm=awscrt.auth.AwsSigningAlgorithm.V4,
        signature_type=kind.HTTP_REQUEST_HEADERS if expires is None else kind.HTTP_REQUEST_QUERY_PARAMS,
        credentials_provider=awscrt.auth.AwsCredentialsProvider.new_static(
            credential.access_key_id, credential.secret, credential.session_token
        ),
        region="us-east-1",
        service="voiceid",
        date=moment,
        expiration_in_seconds=expires,
    )
    awscrt.auth.aws_sign_request(request, config).result(PATIENCE_S)
    _, _, query_string = request.path.partition("?")
    arrived = [(name.lower().encode(), value.encode()) for name, value in request.headers]
    return SignedRequest("POST", path.encode(), query_string.encode(), arrived, body)


def verifier(credential, **options):
    given = {"regions": ["us-east-1"], "service": "voiceid", "skew_s": 300.0, **options}
    return Verifier(find={credential.access_key_id: credential}.get, **given)


SIGNERS = pytest.mark.parametrize("sign", [by_botocore, by_awscrt])
FORMS = pytest.mark.parametrize("expires", [None, 900], ids=["header", "presigned"])


@SIGNERS
@FORMS
def test_any_signed_request_is_accepted(sign, expires):
    @FAST
    @given(requests())
    def is_accepted(parts):
        credential, moment = parts[-2:]
        assert verifier(credential).verify(sign(*parts, expires), moment).credential is credential

    is_accepted()


@SIGNERS
def test_header_white_space_is_folded_as_signers_do(sign):
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    credential = Credential("AKIDEXAMPLE", "secret")
    request = sign("/", {}, {"x-words": "a   b  c"}, b"", credential, moment)
    assert (b"x-words", b"a   b  c") in request.headers
    assert verifier(credential).verify(request, moment).credential is credential


def test_repeated_headers_are_folded_as_in_botocore():
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    credential = Credential("AKIDEXAMPLE", "secret")
    headers = HTTPHeaders()
    for value in ("one", " two  three ", "one"):
        headers.add_header("x-many", value)
    request = by_botocore("/", {}, headers, b"", credential, moment)
    assert [name for name, _ in request.headers].count(b"x-many") == 3
    assert verifier(credential).verify(request, moment).credential is credential
    swapped = [*request.headers]
    first = swapped.index((b"x-many", b"one"))
    swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
    with pytest.raises(GatewayError):
        verifier(credential).verify(replace(request, headers=swapped), moment)


def changes(request):
    """(what, request changed in just that)."""
    yield "method", replace(request, method="PUT")
    yield "path", replace(request, raw_path=request.raw_path + b"x")
    yield "query, added", replace(request, query_string=request.query_string + b"&zz=1")
    yield "body", replace(request, body=request.body + b" ")
    if request.query_string:
        name, equals, value = request.query_string.partition(b"=")
        yield "query, changed", replace(request, query_string=name + equals + b"0" + value)
        yield "query, dropped", replace(request, query_string=request.query_string.partition(b"&")[2])
    authorization = dict(request.headers).get(b"authorization", request.query_string)
    text = authorization.decode()
    for index, (name, value) in enumerate(request.headers):
        if name != b"authorization" and name.decode() in text.replace("%3B", ";"):
            others = request.headers[:index] + request.headers[index + 1 :]
            yield f"{name} changed", replace(request, headers=[*others, (name, value + b"1")])
            yield f"{name} doubled", replace(request, headers=[*request.headers, (name, b"1")])
            yield f"{name} dropped", replace(request, headers=others)


@SIGNERS
@FORMS
def test_any_change_of_a_signed_request_is_refused(sign, expires):
    @FAST
    @given(requests(), st.data())
    def is_refused(parts, data):
        credential, moment = parts[-2:]
        request = sign(*parts, expires)
        what, other = data.draw(st.sampled_from(list(changes(request))), label="changed")
        with pytest.raises(GatewayError) as refused:
            verifier(credential).verify(other, moment)
        if len(credential.session_token or "") > 8:
            assert credential.session_token not in (refused.value.message or ""), what

    is_refused()


@SIGNERS
@FORMS
def test_any_changed_bit_of_the_signature_is_refused(sign, expires):
    @FAST
    @given(requests(), st.integers(0, 63), st.integers(1, 15))
    def is_refused(parts, digit, flip):
        credential, moment = parts[-2:]
        request = sign(*parts, expires)
        marker = b"Signature="
        whole = request.query_string if expires else dict(request.headers)[b"authorization"]
        at = whole.rindex(marker) + len(marker) + digit
        forged = whole[:at] + b"%x" % (int(whole[at : at + 1], 16) ^ flip) + whole[at + 1 :]
        if expires:
            other = replace(request, query_string=forged)
        else:
            unchanged = [(name, value) for name, value in request.headers if name != b"authorization"]
            other = replace(request, headers=[*unchanged, (b"authorization", forged)])
        with pytest.raises(GatewayError):
            verifier(credential).verify(other, moment)

    is_refused()


@SIGNERS
@FORMS
def test_a_signature_is_valid_for_its_own_scope_only(sign, expires):
    @settings(FAST, max_examples=settings().max_examples // 4)
    @given(requests())
    def is_refused(parts):
        credential, moment = parts[-2:]
        request = sign(*parts, expires)
        others = [
            (verifier(credential, regions=["us-west-2"]), moment),
            (verifier(credential, service="connect"), moment),
            (verifier(replace(credential, secret=credential.secret + "x")), moment),
            (verifier(replace(credential, session_token=(credential.session_token or "") + "x")), moment),
            (verifier(replace(credential, access_key_id="A" + credential.access_key_id)), moment),
            (verifier(replace(credential, expires_at=moment)), moment),
            (verifier(credential), moment + timedelta(seconds=(expires or 300) + 1)),
            (verifier(credential), moment - timedelta(seconds=301)),
        ]
        for other, now in others:
            with pytest.raises(GatewayError):
                other.verify(request, now)

    is_refused()


@FAST
@given(st.lists(st.sampled_from(["a", "b%20c", "", ".", "..", "%2e", "~", "é"]), max_size=6))
def test_paths_are_normalized_as_in_botocore(segments):
    path = "/" + "/".join(segments)
    signer = SigV4Auth(Credentials("a", "b"), "voiceid", "us-east-1")
    assert canonical_path(path.encode()).decode() == signer._normalize_url_path(path)


BYTES = st.binary(max_size=60) | st.sampled_from(
    [b"AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=f", b"20261122T120000Z", b"%",
     b"=&=", b"X-Amz-Algorithm=&X-Amz-Credential=%ff", b"Sun, 22 Nov 2026 12:00:00 +9999",
     b"1 2 3 4 5", b", ;=;,"]
)  # fmt: skip
NAMES = st.sampled_from(
    [b"authorization", b"host", b"x-amz-date", b"date", b"x-amz-target", b"x-amz-security-token", b"x"]
)


@settings(max_examples=settings().max_examples * 5)
@given(st.lists(st.tuples(NAMES, BYTES), max_size=8), BYTES, BYTES)
def test_arbitrary_bytes_raise_wire_errors_only(headers, path, query):
    request = SignedRequest("POST", path, query, headers, b"")
    with pytest.raises(GatewayError):
        verifier(Credential("a", "b")).verify(request, datetime(2026, 11, 22, 12, tzinfo=UTC))


@settings(max_examples=settings().max_examples * 5)
@given(st.text(st.sampled_from("SunMoJaFeb0123456789 :,+-GMTUTC()"), max_size=40))
def test_an_arbitrary_date_header_raises_wire_errors_only(date):
    header = b"AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=f"
    headers = [(b"authorization", header), (b"host", b"h"), (b"date", date.encode())]
    with pytest.raises(GatewayError):
        verifier(Credential("a", "b")).verify(
            SignedRequest("POST", b"/", b"", headers, b""), datetime(2026, 11, 22, 12, tzinfo=UTC)
        )
