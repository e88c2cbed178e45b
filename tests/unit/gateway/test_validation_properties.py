"""Validation by property, with botocore as the oracle: whatever a client may send passes unchanged, and
whatever breaks one constraint is refused."""

import copy
from datetime import UTC, datetime
from decimal import Decimal

import botocore.serialize
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonant.errors import SerializationFault, Validation
from sonant.gateway.models import DATA_PATH, load_models
from sonant.gateway.protocol import parse_body
from sonant.gateway.validation import compile_input

MODELS = load_models()
CLIENTS = {
    "VoiceID": ServiceModel(Loader().load_service_model("voice-id", "service-2")),
    "Sonant": ServiceModel(Loader([str(DATA_PATH)]).load_service_model("sonant", "service-2")),
}
SERIALIZER = botocore.serialize.create_serializer("json", include_validation=True)
PARSERS = {target: compile_input(operation.input_shape) for target, operation in MODELS.operations.items()}

# What the patterns with \p{..} and dots are generated from; the others hypothesis reads by itself.
LETTERS = st.characters(categories=("L", "N", "Zs"), include_characters="_.:/=+-@")
PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
#: A few for each of the operations, which have most of their shapes in common.
FAST = settings(max_examples=settings().max_examples // 3, suppress_health_check=list(HealthCheck))


def valid(shape):
    """A strategy of values that the shape allows."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    match shape.type_name:
        case "structure":
            members = {name: valid(member) for name, member in shape.members.items()}
            needed = set(shape.required_members)
            return st.fixed_dictionaries(
                {name: members[name] for name in members if name in needed},
                optional={name: members[name] for name in members if name not in needed},
            )
        case "list":
            return st.lists(valid(shape.member), min_size=least or 0, max_size=min(most, 5))
        case "integer":
            return st.integers(least, most)
        case "float":
            return st.floats(least, most)
        case "boolean":
            return st.booleans()
        case "timestamp":
            return st.integers(0, 2**33).map(lambda at: datetime.fromtimestamp(at, UTC))
        case "string" if shape.enum:
            return st.sampled_from(shape.enum)
        case "string":
            pattern = shape.metadata.get("pattern", "")
            if not pattern:
                texts = st.text(PRINTABLE, min_size=least, max_size=200)
            elif r"\p{L}" in pattern:
                texts = st.text(LETTERS, min_size=least, max_size=min(most, 300))
            elif r"\p{ASCII}" in pattern:
                texts = st.text(st.characters(codec="ascii"), max_size=300)
            else:
                texts = st.from_regex(pattern, fullmatch=True, alphabet=PRINTABLE)
            return texts.filter(lambda text: (least or 0) <= len(text) <= most)
    raise AssertionError(shape.type_name)


def on_the_wire(value):
    """The JSON of a client's parameters: it has times as seconds since 1970."""
    if isinstance(value, dict):
        return {name: on_the_wire(member) for name, member in value.items()}
    if isinstance(value, list):
        return [on_the_wire(item) for item in value]
    return value.timestamp() if isinstance(value, datetime) else value


def documents(shape):
    """A strategy of JSON documents that the shape allows."""
    return valid(shape).map(on_the_wire)


def places(shape, value, path=""):
    """Every value inside a document: (shape, container, key, path as messages tell it)."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                at = f"{path}.{name[0].lower()}{name[1:]}".lstrip(".")
                yield member, value, name, at
                yield from places(member, value[name], at)
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            at = f"{path}.{index + 1}.member"
            yield shape.member, value, index, at
            yield from places(shape.member, item, at)


def broken(shape, value):
    """Values near `value` that each break one constraint of the shape."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if shape.type_name in ("integer", "float"):
        return [least - 1, most + 1, least - 1000]
    if shape.type_name == "list":
        return [value * (most + 1) if value else None, [] if least else None]
    if shape.type_name != "string":
        return []
    if shape.enum:
        return [value.lower(), value + " ", ""]
    out = [(value or "x") * (most + 1), "" if least else None]
    if shape.metadata.get("pattern"):
        out.append(f"\u20ac{value[: most - 1]}")
        if r"\p{ASCII}" not in shape.metadata["pattern"]:
            out += [f"{value[: most - 1]}{end}" for end in ("\n", "\r", "\x85")]
    return out


@pytest.mark.parametrize("target", MODELS.operations)
def test_any_valid_input_arrives_unchanged(target):
    operation = MODELS.find(target)
    client = CLIENTS[target.partition(".")[0]].operation_model(operation.name)

    @FAST
    @given(valid(operation.input_shape))
    def arrives_unchanged(parameters):
        request = SERIALIZER.serialize_to_request(parameters, client)
        assert request["headers"]["X-Amz-Target"] == target
        assert PARSERS[target](parse_body(request["body"])) == parameters

    arrives_unchanged()


@pytest.mark.parametrize("target", MODELS.operations)
def test_one_broken_constraint_is_refused_with_its_path(target):
    shape = MODELS.find(target).input_shape

    @FAST
    @given(documents(shape), st.data())
    def is_refused(parameters, data):
        document = copy.deepcopy(parameters)
        choices = [
            (holder, key, at, value, member)
            for member, holder, key, at in places(shape, document)
            for value in broken(member, holder[key])
            if value is not None
        ]
        if not choices:
            return
        holder, key, at, value, member = data.draw(st.sampled_from(choices))
        holder[key] = value
        with pytest.raises(Validation) as refused:
            PARSERS[target](document)
        assert f"at '{at}' failed to satisfy constraint: Member must " in str(refused.value)
        if member.metadata.get("sensitive"):
            assert f"Value at '{at}'" in str(refused.value)

    is_refused()


@pytest.mark.parametrize("target", MODELS.operations)
def test_a_missing_required_member_is_refused(target):
    shape = MODELS.find(target).input_shape

    @FAST
    @given(documents(shape), st.data())
    def is_refused(parameters, data):
        document = copy.deepcopy(parameters)
        choices = [
            (holder[key], name, f"{at}.{name[0].lower()}{name[1:]}")
            for member, holder, key, at in places(shape, document)
            if member.type_name == "structure"
            for name in member.required_members
        ] + [(document, name, f"{name[0].lower()}{name[1:]}") for name in shape.required_members]
        if not choices:
            return
        holder, name, at = data.draw(st.sampled_from(choices))
        del holder[name]
        with pytest.raises(Validation) as refused:
            PARSERS[target](document)
        assert f"at '{at}' failed to satisfy constraint: Member must not be null" in str(refused.value)

    is_refused()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=settings().max_examples * 4)
@given(st.sampled_from(list(MODELS.operations)), st.data())
def test_arbitrary_json_is_parsed_or_refused(target, data):
    shape = MODELS.find(target).input_shape
    members = {name: JSON | documents(member) for name, member in shape.members.items()}
    document = data.draw(JSON | st.fixed_dictionaries({}, optional=members))
    try:
        parsed = PARSERS[target](document)
    except (Validation, SerializationFault) as refused:
        assert len(str(refused)) < 30_000
    else:
        assert set(parsed) <= set(shape.members)


def test_numbers_of_other_python_types_are_refused():
    with pytest.raises(SerializationFault, match="found something else"):
        PARSERS["VoiceID.ListDomains"]({"MaxResults": Decimal(3)})
