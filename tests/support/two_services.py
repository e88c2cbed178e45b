"""Services of a cluster as callers and carriers meet them: official clients, and calls over WebSockets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import boto3
import botocore.session
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from carried_calls import messages_until_closed, opened, refused
from cluster_testbed import Cluster
from waiting import ASK_S, PATIENCE_S, wait_until
from websockets.sync.client import ClientConnection

from sonant.cli.credentials import read_credentials
from sonant.gateway.models import DATA_PATH

__all__ = ["Side", "hang_up", "messages_until_closed", "named", "refused", "say"]

REGION = "us-east-1"
FRAME_BYTES = 3200


def named(domain_id: str, name: str) -> dict[str, str]:
    return {"DomainId": domain_id, "SessionNameOrId": name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One service of a cluster. Its clients make one attempt."""

    process: subprocess.Popen[bytes]
    voice_id: Any
    own: Any
    """Client of Sonant's own operations."""
    keys: Credentials

    @classmethod
    def start(cls, cluster: Cluster, **environment: str) -> Side:
        voice_id = cluster.service(**environment)
        keys = Credentials(*read_credentials(cluster.testbed.settings))
        session = botocore.session.Session()
        session.set_config_variable("data_path", str(DATA_PATH))
        own = boto3.Session(botocore_session=session).client(
            "sonant",
            region_name=REGION,
            endpoint_url=voice_id.meta.endpoint_url,
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE_S, proxies={}),
        )
        return cls(process=cluster.processes[-1], voice_id=voice_id, own=own, keys=keys)

    @property
    def url(self) -> str:
        return str(self.voice_id.meta.endpoint_url)

    def kill(self) -> None:
        """As no program can prevent."""
        self.process.kill()
        self.process.wait()

    # --- live calls

    def stream_url(self, domain_id: str, name: str) -> str:
        request = AWSRequest("GET", f"{self.url}/stream?{urlencode(named(domain_id, name), quote_via=quote)}")
        SigV4QueryAuth(self.keys, "voiceid", REGION, expires=60).add_auth(request)
        return "ws" + str(request.url).removeprefix("http")

    @contextmanager
    def carrying(self, domain_id: str, name: str) -> Iterator[ClientConnection]:
        """A stream that was taken."""
        with opened(self.stream_url(domain_id, name)) as line:
            assert json.loads(line.recv(timeout=PATIENCE_S))["type"] == "begun"
            yield line

    def session(self, domain_id: str, name: str) -> dict[str, Any]:
        return dict(self.own.describe_session(**named(domain_id, name))["Session"])

    def until(self, domain_id: str, name: str, **members: Any) -> dict[str, Any]:
        """The session, as soon as it has these members."""

        def there() -> dict[str, Any] | None:
            found = self.session(domain_id, name)
            return found if members.items() <= found.items() else None

        return dict(wait_until(f"{name}: {members}", there, look_s=ASK_S))

    def evaluation(self, domain_id: str, name: str) -> dict[str, Any]:
        """The result of a session as it is now."""
        return dict(self.voice_id.evaluate_session(**named(domain_id, name)))

    def evaluated(self, domain_id: str, name: str) -> dict[str, Any]:
        """The result of a session, as soon as it says who it is and what is to be feared."""

        def decided() -> dict[str, Any] | None:
            found = self.evaluation(domain_id, name)
            results = (found["AuthenticationResult"], found["FraudDetectionResult"])
            return None if any(one["Decision"] == "NOT_ENOUGH_SPEECH" for one in results) else found

        return (
            wait_until(lambda: f"a decision after {self.evaluation(domain_id, name)}", decided, look_s=ASK_S)
            or {}
        )


def say(line: ClientConnection, samples: bytes) -> None:
    """Bring audio as fast as it is taken; the call goes on."""
    for place in range(0, len(samples), FRAME_BYTES):
        line.send(samples[place : place + FRAME_BYTES])


def hang_up(line: ClientConnection) -> str:
    """End the call; the reason with which the service closed it, when all is stored."""
    line.send(json.dumps({"type": "end"}))
    return messages_until_closed(line)[2]
