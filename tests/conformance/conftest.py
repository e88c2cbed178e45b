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
        QUOTAS_ACTIVE_REGISTRATION_JOBS_PER_DOMAIN="1000",
        JOBS_POLL_S="0.05",
        JOBS_WORKERS="1",
    ) as service:
        (service.data / "buckets" / "calls").mkdir()
        yield service


@pytest.fixture
def domain_id(service: ServiceProcess) -> str:
    """A new domain with nothing in it."""
    return service.domain()
