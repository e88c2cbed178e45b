"""The migration page's configurations of nginx and HAProxy, as they stand there, before a service."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import debian_programs
import pytest
from aws_servers import certificate, free_port, running
from botocore.config import Config
from botocore.exceptions import ClientError
from carried_calls import opened, stream_url
from service_process import REGION, ServiceProcess
from waiting import PATIENCE_S

from sonant.errors import SetupError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("proxies")]

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-voice-id.md"
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy"}
#: What the page leaves to the reader's own configuration.
AROUND = {
    "nginx": """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{page}}}
""",
    "haproxy": """\
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{page}""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy with TLS before a service."""

    service: ServiceProcess
    url: str
    bundle: Path

    def client(self, path: str = "") -> Any:
        key = self.service.credentials
        return boto3.client(
            "voice-id",
            region_name=REGION,
            endpoint_url=self.url + path,
            verify=str(self.bundle),
            aws_access_key_id=key.access_key,
            aws_secret_access_key=key.secret_key,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def refusal(self, path: str = "") -> tuple[str, str]:
        """Code and message of a call that must be refused."""
        with pytest.raises(ClientError) as raised:
            self.client(path).list_domains()
        error = raised.value.response["Error"]
        return error["Code"], error["Message"]


def on_the_page(program: str) -> str:
    (block,) = re.findall(rf"^```{program}\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    return str(block)


@contextmanager
def proxied(program: str, service: ServiceProcess, folder: Path, page: str) -> Iterator[Proxy]:
    """A proxy that is told what the page says, with ports and files of this test's."""
    try:
        root = debian_programs.root_of({PACKAGES[program]})
    except SetupError as why:
        pytest.skip(f"no {program}: {why}")
    port, bundle = free_port(), certificate(folder / "both.pem")
    page = page.replace("443", f"127.0.0.1:{port}").replace(":127.0.0.1", "127.0.0.1")
    page = page.replace("8180", str(service.port))
    page = re.sub(r"/etc/ssl/voice-id\.\S*[a-z]", str(bundle), page)
    config = folder / f"{program}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(AROUND[program].format(folder=folder, page=page, user=user))
    arguments = ["-p", folder, "-c", config] if program == "nginx" else ["-db", "-f", config]
    command = [str(root / "usr/sbin" / program), *map(str, arguments)]
    env = {"LD_LIBRARY_PATH": debian_programs.libraries(root)}
    with running(command, port, env=env):
        yield Proxy(service=service, url=f"https://127.0.0.1:{port}", bundle=bundle)


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(request: pytest.FixtureRequest, service: ServiceProcess, tmp_path: Path) -> Iterator[Proxy]:
    with proxied(request.param, service, tmp_path, on_the_page(request.param)) as proxy:
        yield proxy


def test_signed_calls_pass_the_pages_proxy(proxy: Proxy) -> None:
    assert "DomainSummaries" in proxy.client().list_domains()


def test_streams_of_calls_pass_the_pages_proxy(proxy: Proxy, domain_id: str) -> None:
    proxy.service.own_client().start_session(DomainId=domain_id, SessionName="call")
    of = {"DomainId": domain_id, "SessionNameOrId": "call"}
    url = stream_url(proxy.service, of, origin=proxy.url)
    tls = ssl.create_default_context(cafile=str(proxy.bundle))
    with opened(url, ssl=tls) as connection:
        assert json.loads(connection.recv(timeout=PATIENCE_S))["type"] == "begun"


def test_a_path_before_the_api_is_reported(proxy: Proxy) -> None:
    code, message = proxy.refusal("/voice-id")
    assert code == "UnknownOperationException"
    assert "neither the endpoint nor a proxy may put another before it" in message


@pytest.mark.parametrize("host", ["", "proxy_set_header Host $host;"])
def test_a_host_that_nginx_has_changed_is_named(service: ServiceProcess, tmp_path: Path, host: str) -> None:
    """What nginx does by itself, and what leaves the port out."""
    page = on_the_page("nginx").replace("proxy_set_header Host $http_host;", host)
    with proxied("nginx", service, tmp_path, page) as proxy:
        code, message = proxy.refusal()
    assert code == "InvalidSignatureException"
    came = "127.0.0.1" if host else f"127.0.0.1:{service.port}"
    assert f"The Host header came as '{came}'. If the client sent another, a proxy changed it" in message


def test_a_prefix_that_nginx_takes_off_breaks_the_signature(service: ServiceProcess, tmp_path: Path) -> None:
    page = on_the_page("nginx").replace("location / {", "location /voice-id/ {")
    with proxied("nginx", service, tmp_path, page.replace("8180;", "8180/;")) as proxy:
        assert proxy.refusal("/voice-id/")[0] == "InvalidSignatureException"
