"""SigV4 verification: refusals, their order and their texts."""

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sonant import errors
from sonant.gateway.signature import Credential, SignedRequest, Verifier

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
BODY = b'{"DomainId":"aaaaaaaaaaaaaaaaaaaaaa"}'
TOKEN = "FwoGZXIvYXdzEXAMPLE/token+with=signs=="
LONG_TERM = Credential("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", principal="anna")
SESSION = Credential("ASIDEXAMPLE", "sessionSecret", TOKEN, "bert", NOW + timedelta(hours=1))
EXPIRED = Credential("ASIDEXPIRED", "sessionSecret", TOKEN, "carl", NOW)
KEYS = {credential.access_key_id: credential for credential in (LONG_TERM, SESSION, EXPIRED)}
INVALID = "The security token included in the request is invalid."


@pytest.fixture
def verifier():
    return Verifier(["us-east-1"], "voiceid", 300, KEYS.get)


def signed(monkeypatch, credential=LONG_TERM, *, at=NOW, expires=None, region="us-east-1", service="voiceid",
           headers=None, body=BODY, path="/"):  # fmt: skip
    """A request as botocore signs it; presigned if it `expires`."""
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: at)
    request = AWSRequest(
        "POST",
        f"http://127.0.0.1:8180{path}",
        headers=headers
        or {"X-Amz-Target": "VoiceID.DescribeDomain", "Content-Type": "application/x-amz-json-1.0"},
        data=body if expires is None else b"",
    )
    keys = Credentials(credential.access_key_id, credential.secret, credential.session_token)
    if expires is None:
        SigV4Auth(keys, service, region).add_auth(request)
    else:
        SigV4QueryAuth(keys, service, region, expires=expires).add_auth(request)
    _, _, query = request.url.partition("?")
    return SignedRequest(
        "POST",
        path.partition("?")[0].encode(),
        query.encode(),
        [
            (b"host", b"127.0.0.1:8180"),
            *((n.lower().encode(), v.encode()) for n, v in request.headers.items()),
        ],
        body if expires is None else b"",
    )


def changed(request, *, drop=(), **headers):
    """The request with headers set (`x_amz_date=...`) or dropped."""
    new = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    unchanged = [(n, v) for n, v in request.headers if n not in new and n.decode() not in drop]
    return SignedRequest(
        request.method, request.raw_path, request.query_string, [*unchanged, *new.items()], request.body
    )


def requeried(request, *, drop=(), **params):
    """The presigned request with query parameters set (`Expires=...`) or dropped."""
    new = {f"X-Amz-{name}": value for name, value in params.items()}
    unchanged = [
        (n, v) for n, v in parse_qsl(request.query_string.decode()) if n not in new and n not in drop
    ]
    query = urlencode([*unchanged, *new.items()], quote_via=quote).encode()
    return SignedRequest(request.method, request.raw_path, query, request.headers, request.body)


def authorization(request):
    return dict(request.headers)[b"authorization"].decode()


def refusal(verifier, request, error, now=NOW):
    with pytest.raises(error) as refused:
        verifier.verify(request, now)
    assert type(refused.value) is error
    assert refused.value.http_status == 400
    message = refused.value.message
    for secret in (*(c.secret for c in KEYS.values()), TOKEN, quote(TOKEN, safe="")):
        assert secret not in message
    assert len(message) < 12_000
    return message


# --- what is accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", [LONG_TERM, SESSION])
@pytest.mark.parametrize("expires", [None, 60])
def test_verification_returns_the_signing_credential(verifier, monkeypatch, credential, expires):
    assert verifier.verify(signed(monkeypatch, credential, expires=expires), NOW).credential is credential


def test_signatures_of_several_days_and_keys_verify(verifier, monkeypatch):
    for day in range(3):
        for credential in (LONG_TERM, SESSION):
            at = NOW - timedelta(days=day)
            assert verifier.verify(signed(monkeypatch, credential, at=at), at).credential is credential


def test_after_a_new_secret_only_the_new_one_verifies(monkeypatch):
    keys = dict(KEYS)
    verifier = Verifier(["us-east-1"], "voiceid", 300, keys.get)
    old = signed(monkeypatch)
    verifier.verify(old, NOW)
    keys["AKIDEXAMPLE"] = replaced = Credential("AKIDEXAMPLE", "another")
    assert verifier.verify(signed(monkeypatch, replaced), NOW).credential is replaced
    refusal(verifier, old, errors.InvalidSignature)


def test_the_number_of_cached_signing_keys_is_bounded(monkeypatch):
    monkeypatch.setattr("sonant.gateway.signature.MAX_SIGNING_KEYS", 5)
    keys = {f"AKID{n}": Credential(f"AKID{n}", f"secret{n}") for n in range(20)}
    verifier = Verifier(["us-east-1"], "voiceid", 300, keys.get)
    for credential in keys.values():
        assert verifier.verify(signed(monkeypatch, credential), NOW).credential is credential
        refusal(
            verifier,
            signed(monkeypatch, Credential(f"NO{credential.secret}", "x")),
            errors.UnrecognizedClient,
        )
        assert verifier.cached_signing_keys <= 5


@pytest.mark.parametrize(
    "date",
    ["Sun, 22 Nov 2026 12:00:00 GMT", "Sun, 22 Nov 2026 12:00:00 -0000", "Sun, 22 Nov 2026 13:00:00 +0100"],
)
def test_a_date_header_replaces_an_amz_date(verifier, monkeypatch, date):
    """botocore signs the Date header in place of X-Amz-Date if there is one; proxies may reword it."""
    request = signed(monkeypatch, headers={"Date": "any", "X-Amz-Target": "VoiceID.DescribeDomain"})
    date_header = dict(request.headers)[b"date"]
    assert date_header == b"Sun, 22 Nov 2026 12:00:00 -0000"
    if date.encode() == date_header:
        assert verifier.verify(request, NOW).credential is LONG_TERM
    else:  # understood as a date, but not what was signed
        refusal(verifier, changed(request, date=date), errors.InvalidSignature)
        assert "20261122T120000Z" in refusal(verifier, changed(request, date=date), errors.InvalidSignature)


def test_a_header_may_hold_the_hash_of_the_body(verifier, monkeypatch):
    headers = {"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()}
    assert verifier.verify(signed(monkeypatch, headers=headers), NOW).credential is LONG_TERM


def test_headers_of_proxies_need_no_signature(verifier, monkeypatch):
    request = changed(
        signed(monkeypatch), x_forwarded_for="10.0.0.1", x_amzn_trace_id="Root=1", user_agent="x"
    )
    assert verifier.verify(request, NOW).credential is LONG_TERM


@pytest.mark.parametrize("lag", [-300, 300])
def test_a_clock_skew_of_five_minutes_is_accepted(verifier, monkeypatch, lag):
    assert verifier.verify(signed(monkeypatch), NOW + timedelta(seconds=lag)).credential is LONG_TERM


@pytest.mark.parametrize("age", [-300, 0, 3600])
def test_a_presigned_request_is_valid_for_its_lifetime(verifier, monkeypatch, age):
    assert (
        verifier.verify(signed(monkeypatch, expires=3600), NOW + timedelta(seconds=age)).credential
        is LONG_TERM
    )


# --- what is refused, in the order of the checks ------------------------------------------------------


def test_too_many_headers_are_refused(verifier, monkeypatch):
    request = signed(monkeypatch)
    for extra in ([(b"x-a", b"b")] * 100, [(b"x-a", b"b" * 33_000)]):
        many = SignedRequest("POST", b"/", b"", [*request.headers, *extra], BODY)
        assert "more headers" in refusal(verifier, many, errors.InvalidSignature)
    long = SignedRequest("POST", b"/", b"a=b&" * 5000, request.headers, BODY)
    assert "query string is longer" in refusal(verifier, long, errors.InvalidSignature)


@pytest.mark.parametrize(
    "value", [None, "", "Basic dXNlcjpwYXNz", "Bearer AWS4-", "aws4-hmac-sha256 Credential=a"]
)
def test_a_missing_signature_is_refused(verifier, monkeypatch, value):
    request = changed(signed(monkeypatch), drop=["authorization"])
    if value is not None:
        request = changed(request, authorization=value)
    assert refusal(verifier, request, errors.MissingAuthenticationToken) == (
        "Request is missing Authentication Token"
    )


def test_signatures_in_header_and_query_are_refused(verifier, monkeypatch):
    request = signed(monkeypatch, expires=60)
    both = changed(request, authorization=authorization(signed(monkeypatch)))
    assert refusal(verifier, both, errors.InvalidSignature).startswith("Found both 'X-Amz-Algorithm'")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            "AWS4-HMAC-SHA256",
            ["'Credential' parameter.", "'Signature' parameter.", "'SignedHeaders' parameter."],
        ),
        ("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host", ["'Signature' parameter."]),
        ("AWS4-HMAC-SHA256 Signature=a,SignedHeaders=host", ["'Credential' parameter."]),
        ("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=, Signature=b", ["'SignedHeaders' parameter."]),
    ],
)
def test_the_error_names_each_missing_part_of_the_header(verifier, monkeypatch, header, expected):
    message = refusal(
        verifier, changed(signed(monkeypatch), authorization=header), errors.IncompleteSignature
    )
    sentences = " ".join(f"Authorization header requires {part}" for part in expected)
    assert message == f"{sentences} Authorization={header}"


def test_the_error_names_a_missing_date(verifier, monkeypatch):
    request = changed(signed(monkeypatch), drop=["x-amz-date"])
    message = refusal(verifier, request, errors.IncompleteSignature)
    assert message.startswith(
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization="
    )


@pytest.mark.parametrize(
    "header", ["AWS4-HMAC-SHA256 Credential", "AWS4-HMAC-SHA256 Credential=a, Credential=b, Signature=c"]
)
def test_empty_and_repeated_parts_are_refused(verifier, monkeypatch, header):
    request = changed(signed(monkeypatch), authorization=header)
    assert "'Credential' not a valid key=value pair" in refusal(verifier, request, errors.IncompleteSignature)


@pytest.mark.parametrize(
    "missing",
    [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "X-Amz-Date",
        "X-Amz-Expires",
    ],
)
def test_the_error_names_each_missing_part_of_the_query(verifier, monkeypatch, missing):
    request = requeried(signed(monkeypatch, expires=60), drop=[missing])
    assert refusal(verifier, request, errors.IncompleteSignature) == (
        f"AWS query-string parameters must include '{missing}'. Re-examine the query-string parameters."
    )


def test_a_repeated_part_of_the_query_is_refused(verifier, monkeypatch):
    request = signed(monkeypatch, expires=60)
    twice = SignedRequest("POST", b"/", request.query_string + b"&X-Amz-Expires=70", request.headers, b"")
    assert "'X-Amz-Expires' is given twice" in refusal(verifier, twice, errors.IncompleteSignature)


@pytest.mark.parametrize("seconds", ["0", "-1", "604801", "1e3", "ten", "9" * 5000, "\u0663"])
def test_a_presigned_lifetime_is_a_second_to_a_week(verifier, monkeypatch, seconds):
    request = requeried(signed(monkeypatch, expires=60), Expires=seconds)
    assert "from 1 to 604800" in refusal(verifier, request, errors.IncompleteSignature)


@pytest.mark.parametrize(
    "date",
    ["201", "2026-11-22T12:00:00Z", "20261122T120000", "20261322T120000Z", "20261122T1200000",
     "2026-W47T120000Z", "20261122T250000Z", "Sun", "Sun, 99 Nov 2026 12:00:00 GMT", "x" * 5000,
     "1795348800", "²0261122T120000Z"],
)  # fmt: skip
def test_a_date_in_another_form_is_refused(verifier, monkeypatch, date):
    message = refusal(verifier, changed(signed(monkeypatch), x_amz_date=date), errors.IncompleteSignature)
    assert message.startswith(f"Date must be in ISO-8601 'basic format'. Got '{date[:200]}")
    assert message.endswith(". See http://en.wikipedia.org/wiki/ISO_8601")


def test_an_old_signature_is_refused(verifier, monkeypatch):
    request = signed(monkeypatch, at=NOW - timedelta(seconds=301))
    assert refusal(verifier, request, errors.InvalidSignature) == (
        "Signature expired: 20261122T115459Z is now earlier than 20261122T115500Z (20261122T120000Z - 5 min.)"
    )


def test_a_signature_from_the_future_is_refused(verifier, monkeypatch):
    request = signed(monkeypatch, at=NOW + timedelta(seconds=301))
    assert refusal(verifier, request, errors.InvalidSignature) == (
        "Signature not yet current: 20261122T120501Z is still later than 20261122T120500Z "
        "(20261122T120000Z + 5 min.)"
    )


def test_an_expired_or_early_presigned_request_is_refused(verifier, monkeypatch):
    request = signed(monkeypatch, expires=60)
    assert refusal(verifier, request, errors.InvalidSignature, NOW + timedelta(seconds=61)) == (
        "Signature expired: 20261122T120100Z is now earlier than 20261122T120101Z (20261122T120000Z + 60 s)"
    )
    assert "not yet current" in refusal(
        verifier, request, errors.InvalidSignature, NOW - timedelta(seconds=301)
    )


def test_dates_at_the_ends_of_the_calendar_are_refused(verifier, monkeypatch):
    for request in (signed(monkeypatch), requeried(signed(monkeypatch, expires=604_800))):
        for date, expected in (("00010101T000000Z", "expired"), ("99991231T235959Z", "not yet current")):
            late = (
                changed(request, x_amz_date=date)
                if not request.query_string
                else requeried(request, Date=date)
            )
            assert expected in refusal(verifier, late, errors.InvalidSignature)


@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-target", "x-amz-security-token"])
def test_deciding_headers_must_be_signed(verifier, monkeypatch, name):
    request = signed(monkeypatch, SESSION)
    names = authorization(request).partition("SignedHeaders=")[2].partition(",")[0]
    fewer = ";".join(n for n in names.split(";") if n != name)
    request = changed(request, authorization=authorization(request).replace(names, fewer))
    shown = "Host" if name == "host" else name
    assert refusal(verifier, request, errors.InvalidSignature) == (
        f"'{shown}' must be a 'SignedHeader' in the AWS Authorization."
    )


def test_a_target_added_after_signing_is_refused(verifier, monkeypatch):
    request = signed(monkeypatch, headers={"Content-Type": "application/x-amz-json-1.0"})
    verifier.verify(request, NOW)
    added = changed(request, x_amz_target="VoiceID.DeleteDomain")
    assert "'x-amz-target' must be a" in refusal(verifier, added, errors.InvalidSignature)


@pytest.mark.parametrize(
    "names", ["host;x-amz-date;x-amz-target;x-gone", "host;host;x-amz-date;x-amz-target"]
)
def test_absent_or_repeated_signed_headers_are_refused(verifier, monkeypatch, names):
    request = signed(monkeypatch)
    request = changed(
        request,
        authorization=authorization(request).replace("content-type;host;x-amz-date;x-amz-target", names),
    )
    assert "missing from the request, or named twice" in refusal(verifier, request, errors.InvalidSignature)


def test_another_algorithm_is_refused(verifier, monkeypatch):
    request = signed(monkeypatch)
    header = authorization(request).replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")
    assert "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'" in refusal(
        verifier, changed(request, authorization=header), errors.IncompleteSignature
    )


@pytest.mark.parametrize("credential", ["AKIDEXAMPLE", "a/b/c/d", "a/b/c/d/e/f"])
def test_a_credential_needs_five_elements(verifier, monkeypatch, credential):
    header = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date;x-amz-target, Signature=a"
    )
    request = changed(signed(monkeypatch), authorization=header)
    message = refusal(verifier, request, errors.IncompleteSignature)
    assert message.startswith("Credential must have exactly 5 slash-delimited elements")
    assert message.endswith(f"got '{credential}'")


def test_the_error_names_every_wrong_part_of_the_scope(verifier, monkeypatch):
    request = signed(monkeypatch)
    header = authorization(request)
    scope = "20261122/us-east-1/voiceid/aws4_request"
    sentences = {
        "20261122/eu-west-1/voiceid/aws4_request": (
            "Credential should be scoped to a valid region, not 'eu-west-1'. This Sonant serves us-east-1: "
            "its setting regions (SONANT_REGIONS) takes in others, see docs/coming-from-voice-id.md."
        ),
        "20261122/us-east-1/connect/aws4_request": (
            "Credential should be scoped to correct service: 'voiceid'."
        ),
        "20261122/us-east-1/voiceid/aws5_request": (
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'."
        ),
        "20261121/us-east-1/voiceid/aws4_request": (
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            "'20261121' != '20261122', from '20261122T120000Z'."
        ),
    }
    for wrong, sentence in sentences.items():
        other = changed(request, authorization=header.replace(scope, wrong))
        assert refusal(verifier, other, errors.InvalidSignature) == sentence
    everything = changed(
        request, authorization=header.replace(scope, "20261121/eu-west-1/connect/aws5_request")
    )
    assert refusal(verifier, everything, errors.InvalidSignature) == " ".join(sentences.values())


@pytest.mark.parametrize("sha256", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "0" * 64, ""])
def test_a_wrong_body_hash_is_refused(verifier, monkeypatch, sha256):
    request = signed(monkeypatch, headers={"X-Amz-Content-SHA256": sha256})
    assert "must be the SHA-256 of the body" in refusal(verifier, request, errors.InvalidSignature)


@pytest.mark.parametrize(
    "name", ["AKIDNOBODY", "", "K" * 129, "Schl\u00fcssel", "../AKIDEXAMPLE", "akidexample"]
)
def test_an_unknown_access_key_is_refused(verifier, monkeypatch, name):
    request = signed(monkeypatch)
    request = changed(request, authorization=authorization(request).replace("AKIDEXAMPLE", name))
    error = errors.UnrecognizedClient if "/" not in name else errors.IncompleteSignature
    assert refusal(verifier, request, error).startswith(INVALID if "/" not in name else "Credential must")


def test_only_short_ascii_key_ids_are_looked_up(monkeypatch):
    looked_up: list[str] = []
    verifier = Verifier(["us-east-1"], "voiceid", 300, looked_up.append)
    for name in ("K" * 128, "K" * 129, "", "Schl\u00fcssel"):
        header = authorization(signed(monkeypatch)).replace("AKIDEXAMPLE", name)
        refusal(verifier, changed(signed(monkeypatch), authorization=header), errors.UnrecognizedClient)
    assert looked_up == ["K" * 128]


def test_an_unknown_key_gets_one_error_for_any_signature(monkeypatch):
    verifier = Verifier(["us-east-1"], "voiceid", 300, lambda _: None)
    assert refusal(verifier, signed(monkeypatch), errors.UnrecognizedClient) == INVALID


def test_the_mismatch_error_shows_what_should_be_signed(verifier, monkeypatch):
    request = signed(monkeypatch, Credential("AKIDEXAMPLE", "wrong"))
    canonical = "\n".join(
        [
            "POST",
            "/",
            "",
            "content-type:application/x-amz-json-1.0",
            "host:127.0.0.1:8180",
            "x-amz-date:20261122T120000Z",
            "x-amz-target:VoiceID.DescribeDomain",
            "",
            "content-type;host;x-amz-date;x-amz-target",
            hashlib.sha256(BODY).hexdigest(),
        ]
    )
    scope = "20261122/us-east-1/voiceid/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n20261122T120000Z\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    assert refusal(verifier, request, errors.InvalidSignature) == (
        "The request signature we calculated does not match the signature you provided. Check your AWS "
        "Secret Access Key and signing method. Consult the service documentation for details.\n\n"
        f"The Canonical String for this request should have been\n'{canonical}'\n\n"
        f"The String-to-Sign should have been\n'{to_sign}'\n\n"
        "The Host header came as '127.0.0.1:8180'. If the client sent another, a proxy changed it and must "
        "hand it on as it is: see docs/coming-from-voice-id.md.\n"
    )


@pytest.mark.parametrize("expires", [None, 60])
def test_the_mismatch_error_masks_session_tokens(verifier, monkeypatch, expires):
    request = signed(monkeypatch, Credential("ASIDEXAMPLE", "wrong", TOKEN), expires=expires)
    message = refusal(verifier, request, errors.InvalidSignature)
    assert ("X-Amz-Security-Token=***" if expires else "x-amz-security-token:***") in message


def test_the_mismatch_error_is_bounded_without_control_codes(verifier, monkeypatch):
    wrong = Credential("AKIDEXAMPLE", "wrong")
    request = signed(monkeypatch, wrong, headers={"X-Big": "\x1b" + "a" * 30_000, "Cookie": "sid=42"})
    message = refusal(verifier, request, errors.InvalidSignature)
    assert "\x1b" not in message
    assert "sid=42" not in message
    assert len(message) < 9000


@pytest.mark.parametrize("expires", [None, 60])
def test_a_wrong_session_token_is_refused(verifier, monkeypatch, expires):
    """Signed rightly, so that only the token itself can give it away."""
    cases = [
        Credential("ASIDEXAMPLE", SESSION.secret, "another"),
        Credential("ASIDEXAMPLE", SESSION.secret, None),
        Credential("AKIDEXAMPLE", LONG_TERM.secret, TOKEN),
    ]
    for presented in cases:
        request = signed(monkeypatch, presented, expires=expires)
        assert refusal(verifier, request, errors.UnrecognizedClient) == INVALID


def test_an_expired_session_token_is_refused(verifier, monkeypatch):
    request = signed(monkeypatch, EXPIRED)
    assert refusal(verifier, request, errors.ExpiredToken) == (
        "The security token included in the request is expired"
    )
    assert verifier.verify(request, NOW - timedelta(seconds=1)).credential is EXPIRED


def test_only_the_owner_of_an_expired_key_gets_that_error(verifier, monkeypatch):
    request = signed(monkeypatch, Credential("ASIDEXPIRED", "guess", TOKEN))
    assert "does not match" in refusal(verifier, request, errors.InvalidSignature)


def test_the_repr_of_a_credential_shows_no_secret():
    assert "secret" not in repr(SESSION)
    assert TOKEN not in repr(SESSION)
