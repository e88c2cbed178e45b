"""Every operation's right request, and every error that its model lets it answer, through boto3."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from client_faults import code_of, refused
from fault_scenarios import CANNOT_OCCUR, ERRORS, SCENARIOS, Scenario
from sample_requests import (
    CLIENTS,
    NOT_YET,
    OWN,
    SERVED,
    Furnished,
    furnish,
    hold_job,
    method,
    put_recording,
)
from service_process import NO_JOBS, ServiceProcess, running
from waiting import PATIENCE_S

pytestmark = pytest.mark.xdist_group("matrix")

Factory = pytest.TempPathFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where a scenario's request goes: a client of each model, and what its requests are about."""

    voice_id: Any
    own: Any
    furnished: Furnished

    def call(self, operation: str) -> Any:
        return method(self.own if operation in OWN else self.voice_id, operation)

    @classmethod
    def of(
        cls, service: ServiceProcess, furnished: Furnished, credentials: Any = None, **config: Any
    ) -> World:
        return cls(
            voice_id=service.client(credentials, **config),
            own=service.own_client(credentials, **config),
            furnished=furnished,
        )


@pytest.fixture(scope="module")
def furnished(service: ServiceProcess) -> Furnished:
    return furnish(service)


@pytest.fixture(scope="module")
def full(service: ServiceProcess, furnished: Furnished) -> World:
    return World.of(service, furnished)


@pytest.fixture(scope="module")
def nobody(service: ServiceProcess, furnished: Furnished) -> World:
    """A user who may do nothing."""
    return World.of(service, furnished, service.user())


@pytest.fixture(scope="module")
def key_denied(service: ServiceProcess, furnished: Furnished) -> World:
    """A user who may do everything, but not with keys."""
    actions = ["voiceid:*", "sonant:*", "iam:PassRole"]
    user = service.user({"Effect": "Allow", "Action": actions, "Resource": "*"})
    return World.of(service, furnished, user)


@pytest.fixture(scope="module")
def invalid(service: ServiceProcess, furnished: Furnished) -> World:
    return World.of(service, furnished, parameter_validation=False)


@pytest.fixture(scope="module")
def unconsented(furnished: Furnished, tmp_path_factory: Factory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("unconsented") / "data"
    with running(data, BIOMETRIC_CONSENT="false", **NO_JOBS) as service:
        yield World.of(service, furnished)


@pytest.fixture(scope="module")
def slow(furnished: Furnished, tmp_path_factory: Factory) -> Iterator[World]:
    """A service whose callers have five calls of each operation, and then wait for more than a minute."""
    with running(tmp_path_factory.mktemp("slow") / "data", RATES_FACTOR="0.0001", **NO_JOBS) as service:
        yield World.of(service, furnished, parameter_validation=False)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: Factory) -> Iterator[World]:
    """A service whose database loses two tables while it runs."""
    data = tmp_path_factory.mktemp("broken") / "data"
    with running(data, **NO_JOBS, QUOTAS_ACTIVE_ENROLLMENT_JOBS_PER_DOMAIN="2") as service:
        world = World.of(service, furnish(service))
        with closing(sqlite3.connect(data / "sonant.db", timeout=PATIENCE_S)) as database, database:
            for table in ("domains", "consents"):
                database.execute(f"ALTER TABLE {table} RENAME TO lost_{table}")
        yield world


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: Factory) -> Iterator[World]:
    """A service all of whose quotas are used up."""
    with running(
        tmp_path_factory.mktemp("narrow") / "data",
        QUOTAS_SPEAKERS_PER_DOMAIN="3",
        QUOTAS_FRAUDSTERS_PER_WATCHLIST="1",
        QUOTAS_ACTIVE_SESSIONS_PER_DOMAIN="5",
        LIVE_IDLE_S="3600",
    ) as service:
        furnished = furnish(service)
        service.domain("third")
        enrollment, registration, dry_run = (
            furnished.requests[f"Describe{noun}"]["JobId"]
            for noun in ("SpeakerEnrollmentJob", "FraudsterRegistrationJob", "EnrollmentDryRun")
        )
        service.ended_job(furnished.domain_id, enrollment)
        for job_id in (enrollment, registration, dry_run):
            hold_job(service, job_id)
        yield World.of(service, furnished)


def test_every_error_of_every_operation_is_tried_or_impossible() -> None:
    modelled = {
        (name, error.removesuffix("Exception"))
        for name, operation in SERVED.items()
        for error in operation.errors
    }
    tried = {(scenario.operation, scenario.error) for scenario in SCENARIOS}
    print("\n" + matrix(tried))
    assert tried <= modelled, "the model does not let the operation answer this"
    assert modelled - tried == set(CANNOT_OCCUR)


def matrix(tried: set[tuple[str, str]]) -> str:
    width = max(map(len, SERVED))
    lines = [f"{'':{width}}  {'  '.join(ERRORS)}"]
    for name in sorted(SERVED):
        line = f"{name:{width}}"
        for error in ERRORS:
            cell = "tried" if (name, error) in tried else "never" if (name, error) in CANNOT_OCCUR else "-"
            line += f"  {cell:{len(error)}}"
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_an_operation_ends_in_the_error_that_the_model_has_for_it(
    request: pytest.FixtureRequest, scenario: Scenario
) -> None:
    world: World = request.getfixturevalue(scenario.world.replace(" ", "_"))
    asked = {**world.furnished.requests[scenario.operation], **scenario.change(world.furnished)}
    call = world.call(scenario.operation)
    if scenario.world == "invalid":
        all_optional = not SERVED[scenario.operation].input_shape.required_members
        asked = {"MaxResults": 0} if all_optional else {}
    if scenario.world == "slow":
        for _ in range(5):
            assert code_of(call, **asked) != "ThrottlingException"

    fault = refused(call, **asked)

    assert fault.code == f"{scenario.error}Exception"
    assert (fault.conflict_type or fault.resource_type) == scenario.detail


def test_every_served_operation_has_a_right_request(furnished: Furnished) -> None:
    assert set(furnished.requests) == set(SERVED) == CLIENTS["boto3"]


def test_valid_request_of_every_operation_gets_the_modelled_answer(
    service: ServiceProcess, recording: bytes
) -> None:
    put_recording(service, recording)
    world = World.of(service, furnish(service))
    for operation, asked in world.furnished.requests.items():
        answer = world.call(operation)(**asked)
        assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 200
        shape = SERVED[operation].output_shape
        wanted = set(shape.members if shape else ())
        absent = {"NextToken"} | NOT_YET.get(operation, frozenset())
        assert wanted - absent <= set(answer) <= wanted, operation
