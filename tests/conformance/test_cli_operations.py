"""Every served operation of Voice ID once through the AWS CLI that `sonant voice-id` carries."""

from __future__ import annotations

import json

from botocore import xform_name
from sample_requests import ENDS_IN, OWN, SERVED, furnish
from service_process import ServiceProcess


def test_every_served_operation_has_a_working_command(service: ServiceProcess) -> None:
    requests = {name: given for name, given in furnish(service).requests.items() if name not in OWN}
    assert set(requests) == set(SERVED) - OWN
    for operation, given in requests.items():
        done = service.sonant("voice-id", xform_name(operation, "-"), "--cli-input-json", json.dumps(given))
        if operation in ENDS_IN:
            assert (done.code, f"({ENDS_IN[operation]})" in done.err) == (255, True), operation
            continue
        assert (done.code, done.err) == (0, ""), operation
        shape = SERVED[operation].output_shape
        if shape is None or not shape.members:
            assert done.out == "", operation
        else:
            wanted = set(shape.members)
            assert wanted - {"NextToken"} <= set(json.loads(done.out)) <= wanted, operation
