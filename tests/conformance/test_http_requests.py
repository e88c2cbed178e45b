"""The protocol over real HTTP: requests that are accepted, responses, and errors before any operation."""

from __future__ import annotations

import gzip
import http.client
import json

import pytest
from service_process import KEY_ALIAS, ServiceProcess
from signed_http import JSON_1_0, answer_of, call, exchange, headers_for
from waiting import PATIENCE_S

from sonant.gateway.models import load_models

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"
NO_ROUTE = b"<UnknownOperationException/>\n"
LIST = "VoiceID.ListDomains"


# --- what is accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{}", b" {} \n", b"null"])
def test_an_empty_body_is_the_empty_object(service: ServiceProcess, body: bytes) -> None:
    answer = call(service, LIST, body)
    assert (answer.status, answer.content_type) == (200, JSON_1_0)
    assert "DomainSummaries" in answer.json


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/X-Amz-JSON-1.0", f"{JSON_1_0};x=y"],
)
def test_json_content_types_are_accepted(service: ServiceProcess, content_type: str) -> None:
    answer = call(service, LIST, content_type=content_type)
    assert (answer.status, answer.content_type) == (200, JSON_1_0)


def test_members_outside_the_model_are_ignored(service: ServiceProcess) -> None:
    answer = call(
        service,
        "VoiceID.CreateDomain",
        {
            "Name": "calls",
            "Colour": {"deep": ["red"]},
            "ServerSideEncryptionConfiguration": {"KmsKeyId": KEY_ALIAS, "Colour": 7},
        },
    )
    assert answer.status == 200
    assert "Colour" not in answer.json["Domain"]


def test_null_is_absent(service: ServiceProcess) -> None:
    encryption = {"KmsKeyId": KEY_ALIAS}
    optional = {"Name": "calls", "Description": None, "Tags": None, "ClientToken": None}
    answer = call(
        service, "VoiceID.CreateDomain", {**optional, "ServerSideEncryptionConfiguration": encryption}
    )
    assert answer.status == 200
    assert "Description" not in answer.json["Domain"]
    assert b"null" not in answer.body
    required = call(
        service, "VoiceID.CreateDomain", {"Name": None, "ServerSideEncryptionConfiguration": encryption}
    )
    assert (required.status, required.fault) == (400, "ValidationException")
    assert "'name' failed to satisfy constraint: Member must not be null" in str(required.message)


def test_times_are_numbers_to_the_millisecond(service: ServiceProcess, domain_id: str) -> None:
    domain = call(service, "VoiceID.DescribeDomain", {"DomainId": domain_id}).json["Domain"]
    for name in ("CreatedAt", "UpdatedAt"):
        assert type(domain[name]) in (int, float)
        assert domain[name] * 1000 == pytest.approx(round(domain[name] * 1000), abs=1e-3)


def test_an_operation_without_output_has_an_empty_body(service: ServiceProcess, domain_id: str) -> None:
    who = {"DomainId": domain_id, "SpeakerId": "customer"}
    assert call(service, "VoiceID.OptOutSpeaker", who).status == 200
    answer = call(service, "VoiceID.DeleteSpeaker", who)
    assert (answer.status, answer.content_type, answer.body) == (200, JSON_1_0, b"")


def test_unknown_client_headers_are_ignored(service: ServiceProcess) -> None:
    more = {"amz-sdk-invocation-id": NOBODY, "amz-sdk-request": "attempt=1", "User-Agent": "x" * 2000}
    assert call(service, LIST, more=more).status == 200


# --- no such route ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-amz-json-1.1", "", "application"]
)
def test_a_post_of_another_content_type_is_an_unknown_route(
    service: ServiceProcess, content_type: str | None
) -> None:
    answer = call(service, LIST, content_type=content_type)
    assert (answer.status, answer.body) == (404, NO_ROUTE)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("PUT", "/"),
        ("DELETE", "/"),
        ("OPTIONS", "/"),
        ("GET", "/nowhere"),
        ("GET", "/../../etc/passwd"),
        ("GET", "/health/"),
        ("GET", "/%00"),
    ],
)
def test_another_method_or_path_is_an_unknown_route(service: ServiceProcess, method: str, path: str) -> None:
    headers = headers_for(service, LIST, path=path, method=method)
    answer = exchange(service, headers, method=method, path=path)
    assert (answer.status, answer.body) == (404, NO_ROUTE)


@pytest.mark.parametrize("path", ["/nowhere", "//", "/%2f", "/health", "/voice/"])
def test_an_operation_at_another_path_gets_advice(service: ServiceProcess, path: str) -> None:
    answer = exchange(service, headers_for(service, LIST, path=path), path=path)
    assert (answer.status, answer.fault) == (404, "UnknownOperationException")
    assert answer.message == (
        "The API is at the path / of its host: neither the endpoint nor a proxy may put another before it"
    )


def test_head_is_an_unknown_route_without_body(service: ServiceProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    connection.request("HEAD", "/")
    response = connection.getresponse()
    assert (response.status, response.read()) == (404, b"")
    # The connection is still in step.
    connection.request("POST", "/", body=b"{}", headers=headers_for(service, LIST, b"{}"))
    assert answer_of(connection).status == 200
    connection.close()


def test_only_the_health_check_needs_no_signature(service: ServiceProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    connection.request("GET", "/health")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (200, {"status": "ok"})
    connection.close()


# --- bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"{",
        b'{"DomainId": }',
        b"{} {}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"DomainId": "\xff"}',
        b'{"DomainId": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"{'DomainId': 1}",
    ],
)
def test_invalid_json_is_a_serialization_error(service: ServiceProcess, body: bytes) -> None:
    answer = call(service, LIST, body)
    assert (answer.status, answer.fault) == (400, "SerializationException")
    assert str(answer.message).startswith("The request body is not valid JSON: ")


def test_a_compressed_body_is_a_serialization_error(service: ServiceProcess) -> None:
    answer = call(service, LIST, gzip.compress(b"{}"), more={"Content-Encoding": "gzip"})
    assert (answer.status, answer.fault) == (400, "SerializationException")
    assert answer.message == "The request body is compressed: send it as plain JSON"


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b"true"])
def test_json_other_than_an_object_is_a_serialization_error(service: ServiceProcess, body: bytes) -> None:
    answer = call(service, LIST, body)
    assert (answer.status, answer.fault) == (400, "SerializationException")


@pytest.mark.parametrize(
    ("target", "document", "expected"),
    [
        ("VoiceID.DescribeDomain", {"DomainId": 7}, "'domainId' must be a string, found a number"),
        ("VoiceID.DescribeDomain", {"DomainId": ["secret"]}, "must be a string, found a list"),
        ("VoiceID.DescribeDomain", {"DomainId": True}, "must be a string, found a boolean"),
        (LIST, {"MaxResults": "secret"}, "'maxResults' must be a whole number, found a string"),
        (LIST, {"MaxResults": 1.5}, "'maxResults' must be a whole number"),
        (LIST, {"MaxResults": 2**40}, "'maxResults' must be a whole number"),
        ("VoiceID.CreateDomain", {"Tags": {"secret": 1}}, "'tags' must be a list, found an object"),
        ("VoiceID.CreateDomain", {"Tags": ["secret"]}, "'tags.1.member' must be an object, found a string"),
    ],
)
def test_a_member_of_the_wrong_type_is_a_serialization_error(
    service: ServiceProcess, target: str, document: object, expected: str
) -> None:
    answer = call(service, target, document)
    assert (answer.status, answer.fault) == (400, "SerializationException")
    assert expected in str(answer.message)
    assert "secret" not in str(answer.message)


def test_a_body_of_the_maximum_size_is_accepted(service: ServiceProcess) -> None:
    assert call(service, LIST, b"{}".ljust(1 << 20)).status == 200


def test_a_larger_body_is_refused_by_its_declared_length(service: ServiceProcess) -> None:
    headers = {**headers_for(service, LIST), "Content-Length": str((1 << 20) + 1)}
    answer = exchange(service, headers)  # not one byte of it is sent
    assert (answer.status, answer.fault) == (413, "RequestEntityTooLargeException")


@pytest.mark.parametrize("length", ["9" * 30, "1" + "0" * 4400])
def test_an_absurd_length_is_refused(service: ServiceProcess, length: str) -> None:
    headers = {**headers_for(service, LIST), "Content-Length": length}
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    connection.putrequest("POST", "/", skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status in (400, 413)
    connection.close()


def test_a_larger_chunked_body_is_refused_while_it_arrives(service: ServiceProcess) -> None:
    headers = {**headers_for(service, LIST), "Transfer-Encoding": "chunked"}
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = exchange(service, headers, chunk * 17 + b"0\r\n\r\n")
    assert (answer.status, answer.fault) == (413, "RequestEntityTooLargeException")


def test_a_chunked_body_is_accepted(service: ServiceProcess) -> None:
    headers = {**headers_for(service, LIST, b'{"MaxResults": 1}'), "Transfer-Encoding": "chunked"}
    answer = exchange(service, headers, b'5\r\n{"Max\r\nc\r\nResults": 1}\r\n0\r\n\r\n')
    assert answer.status == 200


# --- targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "ListDomains",
        "VoiceID.",
        "VoiceID.listDomains",
        "voiceid.ListDomains",
        "VoiceID.ListDomains.",
        "DynamoDB_20120810.ListTables",
        "VoiceID.Nonsense",
        "VoiceID.__init__",
        "VoiceID.StartSession",
        "Sonant.ListDomains",
        "VoiceID.CompareRecording",
        "\xe4\xf6",
    ],
)
def test_an_unknown_target_is_an_unknown_operation(service: ServiceProcess, target: str | None) -> None:
    headers = {"Content-Type": JSON_1_0} | ({} if target is None else {"X-Amz-Target": target})
    answer = exchange(service, headers, b"{}")
    assert (answer.status, answer.fault, answer.message) == (400, "UnknownOperationException", None)


def test_every_operation_of_the_models_is_served(service: ServiceProcess) -> None:
    for operation in load_models().operations.values():
        answer = exchange(service, {"Content-Type": JSON_1_0, "X-Amz-Target": operation.target}, b"{}")
        assert (answer.status, answer.fault) == (400, "MissingAuthenticationTokenException"), operation.target


# --- the order of checks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "target", "body", "fault"),
    [
        (JSON_1_0, LIST, b"{}", "MissingAuthenticationTokenException"),
        (JSON_1_0, LIST, b'{"MaxResults": "x"}', "MissingAuthenticationTokenException"),
        (JSON_1_0, LIST, b'{"MaxResults": 0}', "MissingAuthenticationTokenException"),
        (JSON_1_0, "VoiceID.Nonsense", b"{}", "UnknownOperationException"),
        (JSON_1_0, "VoiceID.Nonsense", b"{", "SerializationException"),
    ],
)
def test_earlier_faults_hide_later_ones(
    service: ServiceProcess, content_type: str, target: str, body: bytes, fault: str
) -> None:
    answer = exchange(service, {"Content-Type": content_type, "X-Amz-Target": target}, body)
    assert answer.fault == fault


def test_a_wrong_type_hides_a_broken_constraint(service: ServiceProcess) -> None:
    answer = call(service, "VoiceID.ListSpeakers", {"DomainId": "short", "MaxResults": "x"})
    assert answer.fault == "SerializationException"
