"""AWS JSON 1.0, with botocore's parsers as the oracle for responses."""

import gzip
import inspect
import json
from datetime import UTC, datetime, timedelta, timezone

import botocore.parsers
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel, ShapeResolver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonant import errors
from sonant.errors import SerializationFault
from sonant.gateway.models import load_models
from sonant.gateway.protocol import CONTENT_TYPE, compile_output, error_body, error_content_type, parse_body

MODELS = load_models()
PARSER = botocore.parsers.create_parser("json")
VOICE_ID = ServiceModel(Loader().load_service_model("voice-id", "service-2"))


def output(name, **options):
    return compile_output(MODELS.find(f"VoiceID.{name}").output_shape, **options)


def as_client_reads(body, shape, status=200):
    return PARSER.parse({"body": body, "headers": {}, "status_code": status}, shape)


# --- requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b" {} \n"])
def test_an_empty_body_and_an_empty_object_are_an_empty_input(raw):
    assert parse_body(raw) == {}


def test_of_a_repeated_member_the_last_value_counts():
    assert parse_body(b'{"DomainId":"a","DomainId":"b"}') == {"DomainId": "b"}


@pytest.mark.parametrize(
    "raw",
    [b"{", b"{]", b"{'a':1}", b"{}{}", b"\xff", b"NaN", b'{"a":1e999}', b'"\xff"', b'{"a":"\\ud800"}',
     b"\xef\xbb\xbf{}", b" ", b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000],
)  # fmt: skip
def test_invalid_json_is_a_serialization_fault(raw):
    with pytest.raises(SerializationFault, match=r"^The request body is not valid JSON: .*line 1 column"):
        parse_body(raw)


def test_the_error_for_a_byte_order_mark_names_it():
    with pytest.raises(SerializationFault, match="byte order mark"):
        parse_body(b"\xef\xbb\xbf{}")


def test_the_error_for_a_compressed_body_names_it():
    with pytest.raises(SerializationFault, match="is compressed: send it as plain JSON"):
        parse_body(gzip.compress(b"{}"))


def test_the_error_for_invalid_json_does_not_repeat_it():
    with pytest.raises(SerializationFault) as refused:
        parse_body(b'{"SpeakerId": secret-4711}')
    assert "secret" not in (refused.value.message or "")


@pytest.mark.parametrize("raw", [b"[]", b'"text"', b"1", b"true", b'["a"]'])
def test_json_other_than_an_object_is_a_serialization_fault(raw):
    with pytest.raises(SerializationFault, match="must be an object"):
        parse_body(raw)


# --- answers ------------------------------------------------------------------------------------------


def test_no_output_is_an_empty_body_and_an_empty_output_is_an_object():
    assert output("DeleteDomain")({"Ignored": 1}) == b""
    assert output("DeleteDomain")(None) == b""
    assert output("TagResource")(None) == b"{}"
    assert output("TagResource")({}) == b"{}"


def test_members_come_in_model_order_without_absent_ones():
    speaker = {
        "UpdatedAt": None,
        "Status": "ENROLLED",
        "DomainId": "d",
        "CreatedAt": datetime(2026, 1, 1, tzinfo=UTC),
    }
    assert output("DescribeSpeaker")({"Speaker": speaker}) == (
        b'{"Speaker":{"CreatedAt":1767225600,"DomainId":"d","Status":"ENROLLED"}}'
    )


def test_members_outside_the_model_are_dropped():
    answer = {"Speaker": {"DomainId": "d", "Voiceprint": "x"}, "Secret": "y"}
    assert output("DescribeSpeaker")(answer) == b'{"Speaker":{"DomainId":"d"}}'


def test_a_strict_serializer_refuses_members_outside_the_model():
    with pytest.raises(ValueError, match="DescribeSpeakerResponse has no member Secret"):
        output("DescribeSpeaker", strict=True)({"Secret": "y"})
    with pytest.raises(ValueError, match="Speaker has no member Voiceprint"):
        output("DescribeSpeaker", strict=True)({"Speaker": {"Voiceprint": "x"}})


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC), b"1795348800"),
        (datetime(2026, 11, 22, 12, 0, 0, 123_000, tzinfo=UTC), b"1795348800.123"),
        (datetime(2026, 11, 22, 12, 0, 0, 123_999, tzinfo=UTC), b"1795348800.123"),
        (datetime(2026, 11, 22, 12, 0, 0, 999, tzinfo=UTC), b"1795348800"),
        (datetime(2026, 11, 22, 14, 0, 0, tzinfo=timezone(timedelta(hours=2))), b"1795348800"),
        (datetime(1970, 1, 1, tzinfo=UTC), b"0"),
    ],
)
def test_times_are_seconds_since_1970_to_the_millisecond(moment, number):
    body = output("DescribeSpeaker")({"Speaker": {"CreatedAt": moment}})
    assert body == b'{"Speaker":{"CreatedAt":' + number + b"}}"


def test_a_time_without_zone_raises_value_error():
    with pytest.raises(ValueError, match="time zone"):
        output("DescribeSpeaker")({"Speaker": {"CreatedAt": datetime(2026, 1, 1)}})  # noqa: DTZ001


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_raises_value_error(number):
    serialize = compile_output(MODELS.find("Sonant.CompareRecording").output_shape)
    with pytest.raises(ValueError, match="finite"):
        serialize({"NetSpeechSeconds": number})


def test_lists_maps_and_bytes_are_serialized():
    shape = ShapeResolver(
        {
            "Out": {"type": "structure", "members": {
                "Bytes": {"shape": "Bytes"}, "Times": {"shape": "Times"}, "Names": {"shape": "Names"},
                "ByName": {"shape": "ByName"}, "Counts": {"shape": "Counts"}}},
            "Bytes": {"type": "blob"},
            "At": {"type": "timestamp"},
            "Name": {"type": "string"},
            "Count": {"type": "integer"},
            "Times": {"type": "list", "member": {"shape": "At"}},
            "Names": {"type": "list", "member": {"shape": "Name"}},
            "ByName": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "At"}},
            "Counts": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Count"}},
        }
    ).get_shape_by_name("Out")  # fmt: skip
    moment = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    answer = {
        "Bytes": b"\x00\xff",
        "Times": (moment,),
        "Names": ("a", "b"),
        "ByName": {"x": moment},
        "Counts": {"y": 0},
    }
    body = compile_output(shape)(answer)
    assert json.loads(body) == {
        "Bytes": "AP8=",
        "Times": [1_000_000_000],
        "Names": ["a", "b"],
        "ByName": {"x": 1_000_000_000},
        "Counts": {"y": 0},
    }
    read = as_client_reads(body, shape)
    assert (read["Bytes"], read["Times"], read["ByName"]) == (b"\x00\xff", [moment], {"x": moment})


def answers(shape):
    """A strategy of answers of the shape."""
    match shape.type_name:
        case "structure":
            return st.fixed_dictionaries(
                {}, optional={name: answers(member) for name, member in shape.members.items()}
            )
        case "list":
            return st.lists(answers(shape.member), max_size=3)
        case "integer":
            return st.integers(-(2**31), 2**31 - 1)
        case "double":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "timestamp":
            return st.integers(0, 4_102_444_800_000).map(
                lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
            )
        case "string":
            return st.text(st.characters(codec="utf-8"), max_size=20)
        case "blob":
            return st.binary(max_size=20)
    raise AssertionError(shape.type_name)


@pytest.mark.parametrize(
    "target", [target for target, operation in MODELS.operations.items() if operation.output_shape]
)
def test_a_client_parses_any_answer_back_unchanged(target):
    shape = MODELS.find(target).output_shape
    serialize = compile_output(shape, strict=True)

    @settings(max_examples=settings().max_examples // 3, suppress_health_check=list(HealthCheck))
    @given(answers(shape))
    def is_read_back(answer):
        read = as_client_reads(serialize(answer), shape)
        read.pop("ResponseMetadata")
        assert read == answer

    is_read_back()


# --- errors -------------------------------------------------------------------------------------------

MODELLED = [
    errors.AccessDenied("No."),
    errors.Conflict("SPEAKER_OPTED_OUT"),
    errors.InternalServer("disk /dev/sda is on fire"),
    errors.ResourceNotFound("SPEAKER", "The speaker does not exist."),
    errors.ServiceQuotaExceeded("Too many."),
    errors.Throttling("Slow down."),
    errors.Validation("1 validation error detected: ..."),
]
GATEWAY_ERRORS = [
    cls("Why.") for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.GatewayError)
    and cls not in (errors.GatewayError, errors.Misdirected, errors.UnknownRoute)
]  # fmt: skip


def test_a_modelled_error_has_shape_id_message_and_members():
    assert error_body(errors.ResourceNotFound("SPEAKER", "The speaker does not exist.")) == (
        b'{"__type":"com.amazonaws.voiceid#ResourceNotFoundException",'
        b'"Message":"The speaker does not exist.","ResourceType":"SPEAKER"}'
    )


@pytest.mark.parametrize("error", MODELLED, ids=lambda error: error.code)
def test_a_client_recognizes_every_modelled_error(error):
    body = error_body(error)
    read = as_client_reads(body, None, error.http_status)["Error"]
    assert (read["Code"], read["Message"]) == (error.code, json.loads(body)["Message"])
    modelled = as_client_reads(body, VOICE_ID.shape_for(error.code), error.http_status)
    assert {name: modelled[name] for name in error.members} == error.members
    assert error_content_type(error) == CONTENT_TYPE == "application/x-amz-json-1.0"


@pytest.mark.parametrize("error", GATEWAY_ERRORS, ids=lambda error: type(error).__name__)
def test_a_client_recognizes_every_gateway_error(error):
    body = error_body(error)
    assert json.loads(body) == {"__type": f"com.amazon.coral.service#{error.code}", "message": "Why."}
    read = as_client_reads(body, None, error.http_status)
    assert (read["Error"]["Code"], read["Error"]["Message"]) == (error.code, "Why.")
    assert error_content_type(error) == CONTENT_TYPE


def test_an_error_without_message_has_no_message_member():
    assert error_body(errors.UnknownOperation()) == (
        b'{"__type":"com.amazon.coral.service#UnknownOperationException"}'
    )


def test_an_unknown_route_is_answered_with_plain_text():
    assert error_body(errors.UnknownRoute()) == b"<UnknownOperationException/>\n"
    assert error_content_type(errors.UnknownRoute()) == "text/plain"


def test_an_internal_error_shows_nothing_of_its_cause():
    body = error_body(errors.InternalServer("disk is on fire", Path="/secret/place"))
    assert json.loads(body) == {
        "__type": "com.amazonaws.voiceid#InternalServerException",
        "Message": "The request failed due to an unknown error on the server side.",
    }
