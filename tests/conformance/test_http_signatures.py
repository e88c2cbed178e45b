"""Signatures over real HTTP, valid and with every fault that AWS's front ends distinguish."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from botocore.credentials import Credentials
from service_process import REGION, ServiceProcess
from signed_http import JSON_1_0, Answer, Signer, call, exchange, headers_for, presigned_path

LIST = "VoiceID.ListDomains"
BODY = b'{"MaxResults": 1}'
STAMP = r"\d{8}T\d{6}Z"


def send(service: ServiceProcess, **changed: str | None) -> Answer:
    """A signed request with headers changed, added or (None) left out after it was signed."""
    headers = headers_for(service, LIST, BODY)
    for name, value in changed.items():
        header = name.replace("_", "-")
        for known in [known for known in headers if known.lower() == header.lower()]:
            del headers[known]
        if value is not None:
            headers[header] = value
    return exchange(service, headers, BODY)


def authorization(service: ServiceProcess) -> str:
    return headers_for(service, LIST, BODY)["Authorization"]


def edited(service: ServiceProcess, pattern: str, by: str) -> str:
    """A valid Authorization header, edited."""
    changed, count = re.subn(pattern, by, authorization(service))
    assert count == 1
    return changed


# --- missing and incomplete ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "Bearer abc", "Basic QUtJQTpzZWNyZXQ=", "aws4-HMAC-SHA256 x"])
def test_a_request_without_signature_is_refused(service: ServiceProcess, value: str | None) -> None:
    answer = send(service, authorization=value)
    assert (answer.status, answer.fault) == (400, "MissingAuthenticationTokenException")
    assert answer.message == "Request is missing Authentication Token"


@pytest.mark.parametrize("part", ["Credential", "SignedHeaders", "Signature"])
def test_the_error_names_a_missing_part(service: ServiceProcess, part: str) -> None:
    answer = send(service, authorization=edited(service, rf"{part}=[^,]+(, )?", ""))
    assert (answer.status, answer.fault) == (400, "IncompleteSignatureException")
    assert f"Authorization header requires '{part}' parameter." in str(answer.message)
    assert "Authorization=AWS4-HMAC-SHA256" in str(answer.message)


def test_the_error_names_every_missing_part(service: ServiceProcess) -> None:
    answer = send(service, authorization="AWS4-HMAC-SHA256", x_amz_date=None)
    message = str(answer.message)
    assert answer.fault == "IncompleteSignatureException"
    for part in ("'Credential'", "'Signature'", "'SignedHeaders'", "'X-Amz-Date' or a 'Date' header"):
        assert part in message


@pytest.mark.parametrize("text", ["AWS4-HMAC-SHA256 nonsense", "AWS4-HMAC-SHA256 Credential=a,Credential=b"])
def test_an_unparsable_header_is_an_incomplete_signature(service: ServiceProcess, text: str) -> None:
    assert send(service, authorization=text).fault == "IncompleteSignatureException"


# --- dates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["2026-11-22T09:30:00Z", "yesterday", "20269999T999999Z", "1700000000", "0"])
def test_the_error_shows_an_invalid_date(service: ServiceProcess, date: str) -> None:
    answer = send(service, x_amz_date=date)
    assert (answer.status, answer.fault) == (400, "IncompleteSignatureException")
    assert f"Date must be in ISO-8601 'basic format'. Got '{date}'." in str(answer.message)


@pytest.mark.parametrize("age_s", [-280, 280])
def test_a_clock_skew_within_five_minutes_is_accepted(service: ServiceProcess, age_s: int) -> None:
    assert call(service, LIST, signer=Signer(service.credentials, age_s=age_s)).status == 200


def test_an_old_signature_is_expired(service: ServiceProcess) -> None:
    answer = call(service, LIST, signer=Signer(service.credentials, age_s=320))
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert re.fullmatch(
        rf"Signature expired: {STAMP} is now earlier than {STAMP} \({STAMP} - 5 min\.\)", str(answer.message)
    )


def test_a_signature_from_the_future_is_not_yet_current(service: ServiceProcess) -> None:
    answer = call(service, LIST, signer=Signer(service.credentials, age_s=-320))
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert re.fullmatch(
        rf"Signature not yet current: {STAMP} is still later than {STAMP} \({STAMP} \+ 5 min\.\)",
        str(answer.message),
    )


# --- scope --------------------------------------------------------------------------------------------


def test_the_error_names_a_wrong_region(service: ServiceProcess) -> None:
    answer = call(service, LIST, signer=Signer(service.credentials, region="eu-west-1"))
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert answer.message == (
        "Credential should be scoped to a valid region, not 'eu-west-1'. This Sonant serves us-east-1: its "
        "setting regions (SONANT_REGIONS) takes in others, see docs/coming-from-voice-id.md."
    )


@pytest.mark.parametrize("name", ["voice-id", "VoiceID", "dynamodb"])
def test_the_error_names_a_wrong_service(service: ServiceProcess, name: str) -> None:
    answer = call(service, LIST, signer=Signer(service.credentials, service=name))
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert answer.message == "Credential should be scoped to correct service: 'voiceid'."


def test_the_error_names_every_fault_of_the_scope(service: ServiceProcess) -> None:
    scope = edited(service, r"/\d{8}/us-east-1/voiceid/aws4_request", "/19991231/here/there/the_end")
    answer = send(service, authorization=scope)
    assert answer.fault == "InvalidSignatureException"
    for expected in (
        "valid region, not 'here'",
        "correct service: 'voiceid'",
        "'aws4_request'",
        "'19991231' != '",
    ):
        assert expected in str(answer.message)


# --- what is signed -----------------------------------------------------------------------------------


def test_the_host_must_be_signed(service: ServiceProcess) -> None:
    answer = call(service, LIST, signer=Signer(service.credentials, unsigned=["host"]))
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert answer.message == "'Host' must be a 'SignedHeader' in the AWS Authorization."


@pytest.mark.parametrize("header", ["x-amz-target", "x-amz-date"])
def test_headers_that_choose_the_operation_must_be_signed(service: ServiceProcess, header: str) -> None:
    # Left unsigned, the target could be changed on the way: a listing into a deletion.
    answer = call(service, LIST, signer=Signer(service.credentials, unsigned=[header]))
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert header in str(answer.message)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Amz-Target", "VoiceID.DescribeDomain"),
        ("Host", "elsewhere:80"),
        ("Content-Type", "application/json"),
    ],
)
def test_a_changed_signed_header_is_refused(service: ServiceProcess, header: str, value: str) -> None:
    answer = send(service, **{header.replace("-", "_"): value})
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")


def test_a_changed_body_is_refused(service: ServiceProcess) -> None:
    answer = exchange(service, headers_for(service, LIST, BODY), BODY + b" ")
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert str(answer.message).startswith(
        "The request signature we calculated does not match the signature you provided."
    )
    assert "The Canonical String for this request should have been" in str(answer.message)
    assert "The String-to-Sign should have been" in str(answer.message)


def test_a_changed_query_is_refused(service: ServiceProcess) -> None:
    answer = exchange(service, headers_for(service, LIST, BODY), BODY, path="/?added=1")
    assert answer.fault == "InvalidSignatureException"


def test_a_second_target_beside_the_signed_one_is_refused(service: ServiceProcess) -> None:
    signed = list(headers_for(service, LIST, BODY).items())
    for more in ([("X-Amz-Target", "VoiceID.DescribeDomain"), *signed], [*signed, ("X-Amz-Target", LIST)]):
        assert exchange(service, more, BODY).fault == "InvalidSignatureException"


def test_a_second_authorization_is_refused(service: ServiceProcess) -> None:
    signed = headers_for(service, LIST, BODY)
    twice = [*signed.items(), ("Authorization", signed["Authorization"])]
    assert exchange(service, twice, BODY).fault == "IncompleteSignatureException"


def test_a_repeated_signed_header_is_accepted(service: ServiceProcess) -> None:
    headers = headers_for(service, LIST, BODY, more={"X-Amz-Meta": "one,two"})
    del headers["X-Amz-Meta"]
    repeated = [*headers.items(), ("X-Amz-Meta", "one"), ("x-amz-meta", "  two ")]
    assert exchange(service, repeated, BODY).status == 200


def test_the_hash_header_must_match_the_body(service: ServiceProcess) -> None:
    answer = call(service, LIST, BODY, more={"X-Amz-Content-SHA256": "0" * 64})
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")


# --- who ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_id", ["AKIANOBODY", "x" * 129, "a%20b"])
def test_an_unknown_access_key_is_an_unrecognized_client(service: ServiceProcess, key_id: str) -> None:
    answer = call(service, LIST, signer=Signer(Credentials(key_id, "secret")))
    assert (answer.status, answer.fault) == (400, "UnrecognizedClientException")
    assert answer.message == "The security token included in the request is invalid."


def test_an_unknown_session_token_is_refused_and_not_repeated(service: ServiceProcess) -> None:
    ours = service.credentials
    signer = Signer(Credentials(ours.access_key, ours.secret_key, token="secret-token"))
    answer = call(service, LIST, signer=signer)
    assert (answer.status, answer.fault) == (400, "UnrecognizedClientException")
    wrong = Signer(Credentials(ours.access_key, "wrong", token="secret-token"))
    answer = call(service, LIST, signer=wrong)
    assert answer.fault == "InvalidSignatureException"
    assert b"secret-token" not in answer.body


def test_the_secret_is_never_repeated(service: ServiceProcess) -> None:
    answer = send(service, authorization=edited(service, "Signature=[0-9a-f]+", "Signature=" + "0" * 64))
    assert answer.fault == "InvalidSignatureException"
    assert service.credentials.secret_key.encode() not in answer.body


# --- in the query string ------------------------------------------------------------------------------


def send_presigned(service: ServiceProcess, path: str, body: bytes = BODY, **more: str) -> Answer:
    return exchange(service, {"Content-Type": JSON_1_0, "X-Amz-Target": LIST, **more}, body, path=path)


def test_a_presigned_request_is_accepted(service: ServiceProcess) -> None:
    answer = send_presigned(service, presigned_path(service, LIST, BODY))
    assert (answer.status, answer.content_type) == (200, JSON_1_0)


def test_both_signatures_at_once_are_refused(service: ServiceProcess) -> None:
    answer = send_presigned(
        service, presigned_path(service, LIST, BODY), Authorization=authorization(service)
    )
    assert (answer.status, answer.fault) == (400, "InvalidSignatureException")
    assert str(answer.message).startswith("Found both")


def test_a_presigned_request_covers_its_body_and_target(service: ServiceProcess) -> None:
    path = presigned_path(service, LIST, BODY)
    assert send_presigned(service, path, b"{}").fault == "InvalidSignatureException"
    other = exchange(
        service, {"Content-Type": JSON_1_0, "X-Amz-Target": "VoiceID.CreateDomain"}, BODY, path=path
    )
    assert other.fault == "InvalidSignatureException"


@pytest.mark.parametrize("expires_s", [0, -1, 604_801, 10**9])
def test_a_presigned_lifetime_beyond_the_limits_is_refused(service: ServiceProcess, expires_s: int) -> None:
    answer = send_presigned(service, presigned_path(service, LIST, BODY, expires_s=expires_s))
    assert (answer.status, answer.fault) == (400, "IncompleteSignatureException")


@pytest.mark.parametrize(
    "part", ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"]
)
def test_the_error_names_a_missing_query_part(service: ServiceProcess, part: str) -> None:
    path = presigned_path(service, LIST, BODY)
    shorter, count = re.subn(rf"[?&]{part}=[^&]*", "", path)
    assert count == 1
    answer = send_presigned(service, shorter if "?" in shorter else shorter.replace("&", "?", 1))
    assert (answer.status, answer.fault) == (400, "IncompleteSignatureException")
    assert f"'{part}'" in str(answer.message)


def test_the_error_names_an_unknown_region_in_the_query(service: ServiceProcess) -> None:
    path = presigned_path(service, LIST, BODY).replace(
        quote(f"/{REGION}/", safe=""), quote("/mars/", safe="")
    )
    assert "not 'mars'" in str(send_presigned(service, path).message)


# --- the same bytes again -----------------------------------------------------------------------------


def test_an_opt_out_sent_again_after_the_deletion_brings_nobody_back(service: ServiceProcess) -> None:
    domain_id = service.domain("sent-again")
    body = json.dumps({"DomainId": domain_id, "SpeakerId": "gone"}).encode()
    headers = headers_for(service, "VoiceID.OptOutSpeaker", body)
    assert exchange(service, headers, body).status == 200
    assert exchange(service, headers, body).status == 200, "as long as the speaker is there"
    service.voice_id.delete_speaker(DomainId=domain_id, SpeakerId="gone")
    edited_text = headers["Authorization"].replace(", ", ",")  # the same signature in another text
    for sent in (headers, {**headers, "Authorization": edited_text}):
        answer = exchange(service, sent, body)
        assert (answer.status, answer.fault) == (409, "ConflictException")
    assert service.voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"] == []
    assert (
        exchange(service, headers_for(service, "VoiceID.OptOutSpeaker", body + b" "), body + b" ").status
        == 200
    )
