"""Checks of what runs: the service, its runner, its certificate, remote stores, and the clock."""

from __future__ import annotations

import fcntl
import json
import socket
import ssl
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from cryptography import x509
from sqlalchemy import func, select

from sonant.assembly.supervisor import stored_state
from sonant.cli.checks import opened
from sonant.cli.service_client import ENDPOINT_FILE, service_url
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.aws_clients import ClientConfig, make_client
from sonant.storage.database.schema import domains, events, jobs, speakers
from sonant.storage.times import from_us, now

#: Time limit of a request to the service or to a remote store.
_ANSWER_S = 5.0
#: A certificate that ends sooner needs a hand.
CERTIFICATE_LEAST = timedelta(days=14)
#: Clocks may differ by so much: signatures are refused from `gateway.signature_skew_s` on, 300 s by default.
CLOCK_MOST = timedelta(seconds=60)


def check_service(settings: Settings) -> str:
    """Ask the running service whether it is ready. Raises SetupError with its reason when it is not."""
    noted, url = (settings.data / ENDPOINT_FILE).is_file(), service_url(settings)
    if not noted:
        if settings.embedded and _is_locked(settings.data / "service.lock"):
            raise SetupError(
                "a service holds this data folder and has not noted its address: it is starting, or its "
                "file `endpoint` was deleted; restart it"
            )
        return "none runs on this folder"
    headers = {"Authorization": f"Bearer {settings.metrics.token}"} if settings.metrics.token else {}
    answer = _ask(f"{url}/health/ready", _unverified(), headers)
    if answer is None:
        raise SetupError(
            f"the service at {url} does not answer within {_ANSWER_S:g} s: see its log, and restart it if it "
            "hangs; if none runs, the last one was killed, and the next start puts this right"
        )
    if answer.status != 200:
        raise SetupError(f"the service at {url} is not ready: {answer.reason or 'its log says why'}")
    return f"ready at {url}"


def check_runner(settings: Settings) -> str:
    """Describe the runner beside the service of this folder. Raises SetupError when it cannot do jobs."""
    noted = stored_state(settings)
    if noted is None:
        return "no service with a runner of its own runs on this folder"
    restarts = f"started again {noted.restarts} times" if noted.restarts else "never started again"
    if noted.missing:
        raise SetupError(
            f"none has been able to do jobs since {noted.down_since}: {noted.problem}; {restarts}; "
            "see the service's log"
        )
    return f"process {noted.pid}, {restarts}" if noted.pid else f"starting, {restarts}"


def check_certificate(settings: Settings) -> str:
    """Say how long the TLS certificate is valid. Raises SetupError when it has ended or soon will."""
    if not settings.gateway.tls_certificate:
        return "no TLS of its own"
    file = Path(settings.gateway.tls_certificate)
    try:
        chain = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as fault:
        raise SetupError(f"the certificate {file} cannot be read: {fault}") from None
    begins, ends = chain[0].not_valid_before_utc, min(one.not_valid_after_utc for one in chain)
    if not begins <= now() <= ends:
        state = "is not valid before" if now() < begins else "has expired on"
        raise SetupError(
            f"the certificate {file} {state} {_shown(begins if now() < begins else ends)}: put a valid one "
            "in its place, which the service reads within seconds"
        )
    if ends - now() < CERTIFICATE_LEAST:
        raise SetupError(
            f"the certificate {file} expires on {_shown(ends)}: put its successor in its place, which the "
            "service reads within seconds"
        )
    return f"{file}, valid until {_shown(ends)}"


def check_remote(settings: Settings) -> str:
    """Reach S3 and AWS KMS, where settings use them. Raises SetupError for one that does not answer."""
    wanted = {}
    if settings.objects == "s3":
        wanted["s3"] = settings.s3
    if settings.keys == "aws-kms":
        wanted["kms"] = settings.kms  # type: ignore[assignment]
    for service, group in wanted.items():
        config = ClientConfig(region=group.region or settings.region, endpoint=group.endpoint)
        url = str(make_client(service, config).meta.endpoint_url)
        answer = _ask(url, ssl.create_default_context(cafile=group.ca_bundle or None))
        if answer is None:
            raise SetupError(
                f"{url} does not answer within {_ANSWER_S:g} s: check {service}.endpoint, the network and "
                f"{service}.ca_bundle. Jobs wait until it does"
            )
        if answer.date is not None and abs(answer.date - now()) > CLOCK_MOST:
            raise SetupError(_skewed(f"the clock of {url}", answer.date))
    return f"{' and '.join(wanted)} answer" if wanted else "none in use"


def check_cluster(settings: Settings) -> str:
    """Reach the head node of the Ray cluster. Raises SetupError when it takes no connection."""
    address = settings.ray.address
    if settings.engine != "ray":
        return "none in use"
    host, _, port = address.rpartition(":")
    if not host:
        return f"{address}: the cluster that the runner's host belongs to"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as fault:
        raise SetupError(
            f"the Ray cluster at {address} takes no connection ({fault.strerror or fault}): see that its "
            "head node runs, and check ray.address and the network. Jobs wait until it does"
        ) from None
    return f"{address} takes connections"


def check_clock(settings: Settings) -> str:
    """Compare the clock with what is stored, and with PostgreSQL's. Raises SetupError when it is wrong."""
    with opened(settings) as store, store.database.read() as connection:
        times = (
            select(func.max(domains.c.updated_at)),
            select(func.max(jobs.c.created_at)),
            select(func.max(events.c.created_at)),
            select(func.max(speakers.c.updated_at)),
        )
        stored = [connection.execute(one).scalar() for one in times]
        server = None if settings.embedded else connection.execute(select(func.clock_timestamp())).scalar()
    latest = max((from_us(one) for one in stored if one is not None), default=None)
    if server is not None and abs(server - now()) > CLOCK_MOST:
        raise SetupError(_skewed("the database server's clock", server))
    if latest is not None and latest - now() > CLOCK_MOST:
        raise SetupError(_skewed("the newest entry of the database", latest))
    return f"{now():%Y-%m-%d %H:%M:%S} UTC, not before anything stored"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    date: datetime | None


def _ask(url: str, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> _Answer | None:
    """Send a GET, without the proxies of the environment; None when no HTTP answer comes."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        request = urllib.request.Request(url, headers=headers or {})  # noqa: S310 - of the settings
        response = opener.open(request, timeout=_ANSWER_S)
    except urllib.error.HTTPError as refused:
        response = refused
    except (OSError, ValueError):
        return None
    with response:
        date, reason = None, ""
        with suppress(ValueError, TypeError):
            date = parsedate_to_datetime(response.headers["Date"])
        with suppress(ValueError, TypeError, KeyError, OSError):
            reason = str(json.loads(response.read(1 << 16))["reason"])
        return _Answer(response.status, reason, date)


def _unverified() -> ssl.SSLContext:
    """Make a context for the service of this folder: `check_certificate` looks at its certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _is_locked(path: Path) -> bool:
    """Return whether another process holds the lock of a file."""
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _skewed(what: str, other: datetime) -> str:
    apart = other - now()
    direction = "behind" if apart > timedelta() else "ahead of"
    return (
        f"this machine's clock is {abs(apart.total_seconds()):,.0f} s {direction} {what}: set it, and see "
        "that it is synchronized (timedatectl, chronyc tracking). Stop the service until then if it is ahead "
        "by days: expiry goes by the clock"
    )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
