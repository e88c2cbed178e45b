"""A service with TLS of its own, behind a trusted proxy: addresses, schemes, sign-in limits and cookies."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from aws_servers import certificate
from botocore.config import Config
from service_process import REGION, ServiceProcess, running

#: Requests of the test come from here; with it, the test plays the proxy.
PROXY = "127.0.0.1"
CLIENT, OTHER = "192.0.2.7", "192.0.2.8"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls") / "service.pem")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, pem: Path) -> Iterator[ServiceProcess]:
    with running(
        tmp_path_factory.mktemp("edges") / "data",
        GATEWAY_TLS_CERTIFICATE=str(pem),
        GATEWAY_TLS_KEY=str(pem),
        GATEWAY_TRUSTED_PROXIES=PROXY,
        JOBS_BESIDE_SERVICE="false",
    ) as service:
        yield service


def client(service: ServiceProcess, pem: Path, credentials: Any, **headers: str) -> Any:
    """A client whose requests have these headers, as a proxy adds them after the signature."""
    made = boto3.client(
        "voice-id",
        region_name=REGION,
        endpoint_url=service.url,
        verify=str(pem),
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )

    def add(request: Any, **_: Any) -> None:
        for name, value in headers.items():
            request.headers[name.replace("_", "-")] = value

    made.meta.events.register("before-send.*", add)
    return made


def allowed(made: Any) -> bool:
    try:
        made.list_domains()
    except made.exceptions.AccessDeniedException:
        return False
    return True


def on(condition: dict[str, Any]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "voiceid:*", "Resource": "*", "Condition": condition}


def test_service_answers_over_tls_of_its_own(service: ServiceProcess, pem: Path) -> None:
    assert service.url.startswith("https://127.0.0.1:")
    assert client(service, pem, service.credentials).list_domains()["DomainSummaries"] == []


def test_source_address_is_the_clients_and_not_the_proxys(service: ServiceProcess, pem: Path) -> None:
    user = service.user(on({"IpAddress": {"aws:SourceIp": CLIENT}}))
    assert allowed(client(service, pem, user, x_forwarded_for=CLIENT))
    assert not allowed(client(service, pem, user, x_forwarded_for=OTHER))
    assert not allowed(client(service, pem, user))
    assert not allowed(client(service, pem, user, x_forwarded_for=f"{CLIENT}, {OTHER}")), "the client's own"


def test_secure_transport_is_that_of_the_client(service: ServiceProcess, pem: Path) -> None:
    user = service.user(on({"Bool": {"aws:SecureTransport": "true"}}))
    assert allowed(client(service, pem, user))
    assert allowed(client(service, pem, user, x_forwarded_for=CLIENT, x_forwarded_proto="https"))
    assert not allowed(client(service, pem, user, x_forwarded_for=CLIENT, x_forwarded_proto="http"))


def test_audit_trail_has_the_clients_address(service: ServiceProcess, pem: Path) -> None:
    client(service, pem, service.credentials, x_forwarded_for="192.0.2.99").create_domain(
        Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/sonant"}
    )
    lines = [
        json.loads(line)
        for path in (service.data / "audit").glob("*.jsonl")
        for line in path.read_bytes().splitlines()
    ]
    created = [line for line in lines if line["eventName"] == "CreateDomain"]
    assert [line["sourceIPAddress"] for line in created] == ["192.0.2.99"]


def test_login_cookie_is_sent_over_tls_alone(service: ServiceProcess, pem: Path) -> None:
    form = {
        "access-key-id": service.credentials.access_key,
        "secret-access-key": service.credentials.secret_key,
    }
    with httpx.Client(base_url=service.url, verify=ssl.create_default_context(cafile=pem)) as web:
        for headers, secure in (
            ({}, True),
            ({"x-forwarded-for": CLIENT, "x-forwarded-proto": "https"}, True),
            ({"x-forwarded-for": CLIENT, "x-forwarded-proto": "http"}, False),
        ):
            signed = web.post("/sign-in", data=form, headers=headers)
            assert ("Secure" in signed.headers["set-cookie"]) == secure


def test_attempts_of_one_client_use_up_no_others(service: ServiceProcess, pem: Path) -> None:
    """Given a client that guesses, when its attempts are refused, then another behind the proxy signs in."""
    with httpx.Client(base_url=service.url, verify=ssl.create_default_context(cafile=pem)) as web:

        def attempt(address: str) -> int:
            return web.post(
                "/sign-in", data={"access-key-id": "A"}, headers={"x-forwarded-for": address}
            ).status_code

        found = [attempt(CLIENT) for _ in range(80)]
        assert 429 in found
        assert attempt(OTHER) == 303
