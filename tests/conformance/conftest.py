"""Services that the conformance tests share; each test worker has its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from service_process import JUDGED, ServiceProcess, running


@pytest.fixture(autouse=True)
def every_answer_is_as_the_models_say() -> Iterator[None]:
    """Whatever a test has a service answer, by whichever client, is judged at its end."""
    yield
    told = [fault for answers in JUDGED for fault in answers.judge()]
    assert not told, "\n".join(told)


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


@pytest.fixture(scope="session")
def recording(make_call: Any, voices: Any) -> bytes:
    """A call with enough speech to be compared with a voiceprint."""
    return bytes(make_call(next(iter(voices)), 1, net_speech_s=12.0, duration_s=20.0, channels=1))


@pytest.fixture
def domain_id(service: ServiceProcess) -> str:
    """A new domain with nothing in it."""
    return service.domain()
