"""Services that the conformance tests share; each test worker has its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from service_process import ServiceProcess, running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with room for many domains and jobs at once."""
    with running(
        tmp_path_factory.mktemp("service") / "data",
        QUOTAS_DOMAINS_PER_ACCOUNT="10000",
        QUOTAS_ACTIVE_ENROLLMENT_JOBS_PER_DOMAIN="1000",
        JOBS_POLL_S="0.05",
        JOBS_WORKERS="1",
    ) as service:
        (service.data / "buckets" / "calls").mkdir()
        yield service


@pytest.fixture(scope="session")
def idle_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with the default quotas for domains and jobs, two speakers a domain, and a runner that
    never gets round to a job, so that jobs stay SUBMITTED."""
    with running(
        tmp_path_factory.mktemp("idle") / "data", QUOTAS_SPEAKERS_PER_DOMAIN="2", JOBS_POLL_S="86400"
    ) as service:
        service.domain("made-first")
        yield service


@pytest.fixture(scope="session")
def idle_domain_id(idle_service: ServiceProcess) -> str:
    """The one domain that a test may count on there."""
    domains = idle_service.voice_id.list_domains()["DomainSummaries"]
    return str(domains[0]["DomainId"])


@pytest.fixture
def domain_id(service: ServiceProcess) -> str:
    """A new domain with nothing in it."""
    return service.domain()
