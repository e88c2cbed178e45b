"""Every served operation once through the AWS CLI: AWS's own program, and what `sonant voice-id` carries."""

from __future__ import annotations

import json
from collections.abc import Set

import pytest
from botocore import xform_name
from sample_requests import CLIENTS, OWN, SERVED, furnish, put_recording
from service_process import Ended, ServiceProcess

from sonant.gateway.models import DATA_PATH


def check(operation: str, done: Ended) -> None:
    """The command ended as the model says."""
    assert (done.code, done.err) == (0, ""), operation
    shape = SERVED[operation].output_shape
    if shape is None or not shape.members:
        assert done.out == "", operation
    else:
        wanted = set(shape.members)
        assert wanted - {"NextToken"} <= set(json.loads(done.out)) <= wanted, operation


def command_of(operation: str, given: object) -> tuple[str, ...]:
    service = "sonant" if operation in OWN else "voice-id"
    return service, xform_name(operation, "-"), "--cli-input-json", json.dumps(given)


@pytest.mark.slow
@pytest.mark.parametrize("forked", [True, False], ids=["forked", "whole"])
def test_the_aws_cli_makes_every_call(service: ServiceProcess, recording: bytes, forked: bool) -> None:
    assert make(service, recording, CLIENTS["AWS CLI"], forked) == CLIENTS["AWS CLI"]


@pytest.mark.slow
def test_the_aws_cli_makes_every_call_of_sonants_own(service: ServiceProcess, recording: bytes) -> None:
    """Those of Voice ID are made by the same code below, as commands of Sonant's own."""
    assert make(service, recording, OWN, forked=True) == OWN & CLIENTS["AWS CLI"]


def make(service: ServiceProcess, recording: bytes, names: Set[str], forked: bool) -> set[str]:
    """Make the calls of these names by the AWS CLI."""
    put_recording(service, recording)
    requests = {name: given for name, given in furnish(service).requests.items() if name in names}
    for operation, given in requests.items():
        command = command_of(operation, given)
        check(operation, service.aws(*command, forked=forked, AWS_DATA_PATH=str(DATA_PATH)))
    return set(requests)


def test_every_operation_of_voice_id_is_a_command_of_sonants_own(service: ServiceProcess) -> None:
    requests = {name: given for name, given in furnish(service).requests.items() if name not in OWN}
    assert set(requests) == set(SERVED) - OWN
    for operation, given in requests.items():
        check(operation, service.sonant(*command_of(operation, given)))
