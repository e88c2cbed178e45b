"""Inspect an ONNX file without loading it, to refuse files that access anything outside themselves.

The file is a protocol buffer. Only the relevant parts are walked: the operators of the graph, whether its
tensors lie in other files, and the exporter's notes. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sonant.errors import SetupError

#: Operator sets that onnxruntime implements itself and that only work on tensors.
_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
#: Beginnings of the sets that onnxruntime has beside them. A file that defines operators there would get its
#: own ones in their place, or theirs in place of its own.
_OF_THE_RUNTIME = ("com.microsoft", "com.ms.", "ai.onnx", "org.pytorch")
_MAX_DEPTH, _MAX_NODES, _MAX_NOTES = 16, 200_000, 256

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1  # TensorProto.DataLocation
_MOST_TAG = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFacts:
    """The facts of a file that may be opened."""

    nodes: int
    parameters_bytes: int
    """Size of all tensors inside the file."""
    notes: dict[str, str]
    """The exporter's metadata."""


def inspect(content: bytes) -> OnnxFacts:
    """Inspect a model. Raises SetupError if it is not ONNX or uses other files or non-standard operators."""
    walk = _Walk()
    walk.model(memoryview(content))
    if not walk.nodes:
        raise SetupError("the file is not an ONNX model: it holds no graph")
    return OnnxFacts(nodes=walk.nodes, parameters_bytes=walk.parameters_bytes, notes=walk.notes)


class _Walk:
    """Walks the messages of a model and collects its facts."""

    def __init__(self) -> None:
        self.nodes = 0
        self.parameters_bytes = 0
        self.notes: dict[str, str] = {}
        self._own: set[tuple[str, str]] = set()
        """Operators that the file defines itself, from standard ones: set and name."""

    def model(self, message: memoryview) -> None:
        fields = list(_fields(message))
        self._own = {
            (_text(_find(value, 10)), _text(_find(value, 1))) for number, value in fields if number == 25
        }
        if taken := sorted(name for name, _ in self._own if name.startswith(_OF_THE_RUNTIME)):
            raise SetupError(
                f"the ONNX model defines operators of the set {taken[0][:64]}, which is onnxruntime's own: "
                "export it with standard operators only"
            )
        for number, value in fields:
            if number == 7:
                self._graph(value, 0)
            elif number == 14 and len(self.notes) < _MAX_NOTES:
                self.notes[_text(_find(value, 1))[:100]] = _text(_find(value, 2))[:1000]
            elif number == 20:
                raise SetupError("the ONNX model carries training steps: export it for inference")
            elif number == 25:
                for inner, part in _fields(value):
                    if inner == 7:
                        self._node(part, 0)
                    elif inner == 11:  # what an attribute is where the node does not give it
                        self._attribute(part, 0)

    def _graph(self, message: memoryview, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise SetupError(f"the ONNX model's graphs are nested more than {_MAX_DEPTH} deep")
        for number, value in _fields(message):
            if number == 1:
                self._node(value, depth)
            elif number == 5:
                self._tensor(value)
            elif number == 15:
                self._sparse(value)

    def _node(self, message: memoryview, depth: int) -> None:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise SetupError(f"the ONNX model has more than {_MAX_NODES} nodes")
        domain = _text(_find(message, 7))
        kind = _text(_find(message, 4))
        if domain not in _STANDARD and (domain, kind) not in self._own:
            raise SetupError(
                f"the ONNX model uses the operator {domain[:64]}::{kind[:64]}, which is not a standard one: "
                "export it with standard operators only"
            )
        for number, value in _fields(message):
            if number == 5:
                self._attribute(value, depth)

    def _attribute(self, message: memoryview, depth: int) -> None:
        for number, value in _fields(message):
            if number in (5, 10):
                self._tensor(value)
            elif number in (6, 11):
                self._graph(value, depth + 1)
            elif number in (22, 23):
                self._sparse(value)

    def _sparse(self, message: memoryview) -> None:
        for number, value in _fields(message):
            if number in (1, 2):
                self._tensor(value)

    def _tensor(self, message: memoryview) -> None:
        for number, value in _fields(message):
            if number == 13 or (number == 14 and value == bytes([_EXTERNAL])):
                raise SetupError(
                    "the ONNX model keeps its weights in another file: "
                    "save it as one file (onnx.save with save_as_external_data=False)"
                )
            if number in (4, 5, 7, 9, 10, 11):
                self.parameters_bytes += len(value)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (number, value) of each field; an integer is given as its bytes, without continuation bits."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag >= _MOST_TAG:  # protobuf drops the bits above, and so would read another field
            raise SetupError("the file is not an ONNX model")
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, memoryview(value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little"))
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise SetupError("the file is not an ONNX model")
        if size > len(message) - at:
            raise SetupError("the file is not an ONNX model, or is cut short")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise SetupError("the file is not an ONNX model, or is cut short")


def _find(message: memoryview, wanted: int) -> memoryview:
    """Return the last value of a field, as protocol buffers demand; empty if it is absent."""
    found = memoryview(b"")
    for number, value in _fields(message):
        if number == wanted:
            found = value
    return found


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")
