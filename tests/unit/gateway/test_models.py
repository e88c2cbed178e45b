"""The service models: their contents, and that AWS's tools can load the own one."""

import json
import os
import subprocess
import sys

import botocore
import botocore.awsrequest
import botocore.session
import pytest
from botocore.exceptions import EndpointResolutionError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from waiting import PATIENCE_S

from sonant.errors import SetupError, UnknownOperation
from sonant.gateway.models import DATA_PATH, load_models

MODELS = load_models()
THE_SEVEN = {
    "AccessDeniedException",
    "ConflictException",
    "InternalServerException",
    "ResourceNotFoundException",
    "ServiceQuotaExceededException",
    "ThrottlingException",
    "ValidationException",
}
COMPARISON = {
    "DomainId": "a" * 22,
    "DataAccessRoleArn": "arn:aws:iam::123456789012:role/reader",
    "AudioSpecification": {"S3Uri": "s3://calls/one.wav", "ChannelId": 0},
    "SpeakerIds": ["customer-1"],
}


def test_both_models_have_their_operations():
    by_prefix = [target.partition(".")[0] for target in MODELS.operations]
    assert by_prefix.count("VoiceID") == 29
    assert by_prefix.count("Sonant") == 33


def test_own_operations_have_their_own_prefix_in_policies():
    prefixes = {(one.target.partition(".")[0], one.service) for one in MODELS.operations.values()}
    assert prefixes == {("VoiceID", "voiceid"), ("Sonant", "sonant")}


def test_an_operation_is_found_by_its_target():
    operation = MODELS.find("VoiceID.CreateDomain")
    assert (operation.name, operation.service) == ("CreateDomain", "voiceid")
    assert operation.input_shape.name == "CreateDomainRequest"
    assert operation.output_shape is not None
    assert operation.output_shape.name == "CreateDomainResponse"
    assert operation.errors == THE_SEVEN


@pytest.mark.parametrize(
    "target",
    [None, "", "CreateDomain", "VoiceID", "VoiceID.", "VoiceID.Nothing", "voiceid.CreateDomain",
     "Sonant.CreateDomain", "VoiceID.CompareRecording", "VoiceID.CreateDomain ", "DynamoDB.CreateDomain"],
)  # fmt: skip
def test_any_other_target_is_an_unknown_operation(target):
    with pytest.raises(UnknownOperation):
        MODELS.find(target)


def test_the_reading_operations_are_those_that_model_no_conflict():
    voice_id = [one for target, one in MODELS.operations.items() if target.startswith("VoiceID.")]
    readonly = {operation.name for operation in voice_id if operation.readonly}
    assert len(readonly) == 13
    assert readonly == {one.name for one in voice_id if "ConflictException" not in one.errors}


def test_the_four_delete_operations_have_no_output():
    assert {operation.name for operation in MODELS.operations.values() if operation.output_shape is None} == {
        "DeleteDomain",
        "DeleteFraudster",
        "DeleteSpeaker",
        "DeleteWatchlist",
    }


def test_only_scalar_shapes_are_marked_sensitive():
    """The validator keeps values of sensitive shapes to itself, member by member."""
    for shape in _shapes("voice-id", Loader()) + _shapes("sonant", Loader([str(DATA_PATH)])):
        if shape.metadata.get("sensitive"):
            assert shape.type_name in ("string", "blob")


def test_a_botocore_without_the_model_is_a_setup_error_with_advice(monkeypatch, tmp_path):
    monkeypatch.setattr(Loader, "BUILTIN_DATA_PATH", str(tmp_path))
    monkeypatch.setattr(botocore, "__version__", "9.9.9")
    with pytest.raises(SetupError, match=r"botocore 9\.9\.9 does not carry.*pip install 'botocore==1\."):
        load_models.__wrapped__()


# --- our own model ------------------------------------------------------------------------------------


#: What only operations of our own answer.
OWN_VALUES = {"ConflictType": ["CONSENT_MISSING"], "ResourceType": ["CONSENT"]}


def test_shapes_common_to_both_models_are_equal():
    theirs = {shape.name: shape for shape in _shapes("voice-id", Loader())}
    shared = [shape for shape in _shapes("sonant", Loader([str(DATA_PATH)])) if shape.name in theirs]
    assert {"DomainId", "IamRoleArn", "S3Uri", "SpeakerId", "CustomerSpeakerId", *THE_SEVEN} <= {
        shape.name for shape in shared
    }
    for shape in shared:
        added, wanted = OWN_VALUES.get(shape.name, []), theirs[shape.name]
        ours = dict(shape.metadata)
        if added:
            ours["enum"] = [one for one in ours["enum"] if one not in added]
            assert set(added) <= set(shape.enum)
        assert ours == wanted.metadata
        values = [one for one in getattr(shape, "enum", []) if one not in added]
        assert values == list(getattr(wanted, "enum", []))
        assert _member_shapes(shape) == _member_shapes(theirs[shape.name])


def test_own_operations_have_modelled_errors_only():
    assert MODELS.find("Sonant.CompareRecording").errors == THE_SEVEN - {"ServiceQuotaExceededException"}


def test_boto3_loads_the_own_model_and_signs_it_as_voiceid():
    client = _client(endpoint_url="http://127.0.0.1:9")
    sent = []

    def send(request, **_):
        sent.append(request)
        return _answer(request)

    client.meta.events.register("before-send", send)
    client.compare_recording(**COMPARISON)
    assert sent[0].headers["X-Amz-Target"] == b"Sonant.CompareRecording"
    assert sent[0].headers["Content-Type"] == b"application/x-amz-json-1.0"
    assert b"/eu-central-1/voiceid/aws4_request" in sent[0].headers["Authorization"]
    assert json.loads(sent[0].body) == COMPARISON


def test_the_own_model_has_no_default_endpoint():
    """The endpoint prefix is Voice ID's own: requests must not go to AWS by oversight."""
    with pytest.raises(EndpointResolutionError, match="self-hosted"):
        _client().compare_recording(**COMPARISON)


def test_the_aws_cli_loads_the_own_model():
    pytest.importorskip("awscli")
    done = subprocess.run(
        [sys.executable, "-m", "awscli", "sonant", "compare-recording", "--generate-cli-skeleton"],
        env={**os.environ, "AWS_DATA_PATH": str(DATA_PATH)},
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert json.loads(done.stdout).keys() == {*COMPARISON, "MinimumNetSpeech"}


def _shapes(service, loader):
    model = ServiceModel(loader.load_service_model(service, "service-2"), service)
    return [model.shape_for(name) for name in model.shape_names]


def _member_shapes(shape):
    return {name: member.name for name, member in getattr(shape, "members", {}).items()}


def _client(**options):
    session = botocore.session.Session()
    session.set_config_variable("data_path", str(DATA_PATH))
    session.set_credentials("AKIDEXAMPLE", "secret")
    return session.create_client("sonant", region_name="eu-central-1", **options)


def _answer(request):
    class Raw:
        def stream(self):
            yield b"{}"

    return botocore.awsrequest.AWSResponse(request.url, 200, {}, Raw())
