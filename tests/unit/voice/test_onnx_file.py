"""ONNX files: contents that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_networks import field, graph, model, node, speaker_network, tensor

from sonant.errors import SetupError
from sonant.voice.models import open_session
from sonant.voice.models.onnx_file import inspect

WEIGHTS = np.ones((2, 2), np.float32)


def test_plain_network_is_counted_and_its_notes_are_read():
    facts = inspect(speaker_network(notes={"framework": "wespeaker"}))
    assert (facts.nodes, facts.notes) == (3, {"framework": "wespeaker"})
    assert facts.parameters_bytes == 4 * (80 * 64 + 1)


@pytest.mark.parametrize(
    "extra",
    [field(14, 1), field(13, field(1, "location") + field(2, "../../etc/passwd"))],
    ids=["marked as external", "with a location"],
)
def test_weights_in_another_file_are_refused(extra):
    with pytest.raises(SetupError, match="another file"):
        inspect(model(graph([node("Relu", ["x"], "y")], [tensor("w", WEIGHTS, extra=extra)])))


def test_external_weights_in_a_nested_graph_are_refused():
    hidden = field(1, "value") + field(5, tensor("w", WEIGHTS, extra=field(14, 1))) + field(20, 4)
    inner = graph([node("Constant", [], "c") + field(5, hidden)])
    with pytest.raises(SetupError, match="another file"):
        inspect(model(graph([node("If", ["x"], "y", then_branch=inner)])))


@pytest.mark.parametrize("domain", ["com.example", "com.microsoft", "ai.onnx.training"])
def test_operators_of_other_sets_are_refused_by_name(domain):
    with pytest.raises(SetupError, match=f"{domain}::Steal"):
        inspect(model(graph([node("Steal", ["x"], "y", domain=domain)])))


def test_operators_defined_in_the_file_are_accepted():
    use = graph([node("Mine", ["x"], "y", domain="own")])

    def function(inner):
        return field(25, field(1, "Mine") + field(10, "own") + field(7, inner))

    assert inspect(model(use, extra=function(node("Relu", ["x"], "y")))).nodes == 2
    with pytest.raises(SetupError, match="bad::Worse"):
        inspect(model(use, extra=function(node("Worse", ["x"], "y", domain="bad"))))


def defined(name, domain, *parts):
    """A function that the file defines."""
    return field(25, b"".join([field(1, name), field(10, domain), *parts]))


def test_external_weights_in_what_a_function_presets_are_refused():
    preset = field(1, "value") + field(5, tensor("w", WEIGHTS, extra=field(14, 1))) + field(20, 4)
    function = defined("Mine", "own", field(7, node("Constant", [], "c")), field(11, preset))
    with pytest.raises(SetupError, match="another file"):
        inspect(model(graph([node("Mine", ["x"], "y", domain="own")]), extra=function))


def test_defining_one_operator_permits_no_other_of_its_set():
    function = defined("Mine", "own", field(7, node("Relu", ["x"], "y")))
    with pytest.raises(SetupError, match="own::Another"):
        inspect(model(graph([node("Another", ["x"], "y", domain="own")]), extra=function))


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.training", "com.ms.internal.nhwc"])
def test_operators_of_the_runtime_cannot_be_defined(domain):
    function = defined("EPContext", domain, field(7, node("Relu", ["x"], "y")))
    with pytest.raises(SetupError, match=f"set {domain}, which is onnxruntime's own"):
        inspect(model(graph([node("EPContext", ["x"], "y", domain=domain)]), extra=function))


def test_field_numbers_that_protobuf_would_cut_off_are_refused():
    place = field(13, field(1, "location") + field(2, "data.bin"))
    hidden = bytes([0x80 | place[0], 0x80, 0x80, 0x80, 0x10]) + place[1:]
    with pytest.raises(SetupError, match="not an ONNX model"):
        inspect(model(graph([node("Relu", ["x"], "y")], [tensor("w", WEIGHTS, extra=hidden)])))


def test_a_file_of_the_runtimes_own_format_is_not_read_as_one():
    disguised = field(2, "xxORTM" + "y" * 40) + speaker_network()
    assert disguised[4:8] == b"ORTM", "the mark of that format"
    assert inspect(disguised).nodes == 3
    assert open_session(disguised, "disguised").get_outputs()[0].name == "embs"


def test_deep_nesting_is_refused():
    inner = graph([node("Relu", ["x"], "y")])
    for _ in range(40):
        inner = graph([node("If", ["x"], "y", then_branch=inner)])
    with pytest.raises(SetupError, match="nested"):
        inspect(model(inner))


def test_training_steps_are_refused():
    with pytest.raises(SetupError, match="training"):
        inspect(model(graph([node("Relu", ["x"], "y")]), extra=field(20, b"")))


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04" + bytes(100), b"\x0b\x01", b"\xff" * 30])
def test_other_files_are_refused_as_no_model(content):
    with pytest.raises(SetupError, match="not an ONNX model"):
        inspect(content)


def test_truncated_file_is_refused():
    whole = speaker_network(mels=20, dimensions=16)
    opset_bytes = 6  # what follows the graph
    for end in range(len(whole) - opset_bytes):
        with pytest.raises(SetupError):
            inspect(whole[:end])


@given(cut=st.integers(1, 1400), instead=st.binary(max_size=20))
@example(cut=11, instead=b"\x3a\xff\xff\xff\x7f")  # five bytes that fit into the shape of the output
def test_replaced_end_is_refused_or_changes_no_fact(cut, instead):
    whole = speaker_network(mels=20, dimensions=16)
    try:
        found = inspect(whole[:-cut] + instead)
    except SetupError:
        return
    assert found == inspect(whole)


@given(content=st.binary(max_size=400))
def test_any_bytes_are_inspected_or_refused(content):
    try:
        inspect(content)
    except SetupError as fault:
        assert str(fault)
