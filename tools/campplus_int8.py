"""Quantize the CAM++ graph to 8 bits: static, weights per channel, quantize-dequantize (QDQ) form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from model_graphs import Array

WEIGHT_MAX = 63
"""7-bit weights: processors without VNNI add pairs of products in 16 bits, which saturate with 8."""
_LEAST_STEPS = "averagepool"


def quantised_convs(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions worth quantizing: not the first (one channel), not those of a few context masks."""
    return [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and "cam_layer.linear" not in node.input[1].replace("linear_local", "") 
        and node.input[1] != "head.conv1.weight"
    ]


def boundaries(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors that are stored in 8 bits."""
    after = {name: node for node in model.graph.node for name in node.input}
    names: dict[str, None] = {}
    for conv in quantised_convs(model):
        names[conv.input[0]] = None
        names[_result(model, conv)] = None
    return list(names)


def _consumers(model, name):
    return [node for node in model.graph.node if name in node.input]


def _result(model, conv) -> str:
    users = _consumers(model, conv.output[0])
    if len(users) == 1 and users[0].op_type == "Relu":
        return users[0].output[0]
    return conv.output[0]


def activation_ranges(model_bytes: bytes, windows: Iterable[Array], quantile: float = 1.0) -> dict[str, tuple[float, float]]:
    model = onnx.load_from_string(model_bytes)
    names = boundaries(model)
    adds = [n.output[0] for n in model.graph.node if n.op_type == "Add"]
    for name in names:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    o = onnxruntime.SessionOptions(); o.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), o)
    low, high = {n: [] for n in names}, {n: [] for n in names}
    for window in windows:
        for name, value in zip(names, session.run(names, {"feats": window}), strict=True):
            if quantile >= 1:
                low[name].append(float(value.min())); high[name].append(float(value.max()))
            else:
                flat = value.reshape(-1); k = max(1, int(len(flat) * (1 - quantile)))
                part = np.partition(flat, (k, len(flat) - 1 - k))
                low[name].append(float(part[k])); high[name].append(float(part[-1 - k]))
    agg_l, agg_h = (min, max) if quantile >= 1 else (np.mean, np.mean)
    return {n: (float(agg_l(low[n])), float(agg_h(high[n]))) for n in names}


def quantise(model_bytes: bytes, ranges: Mapping[str, tuple[float, float]], weight_max: int = WEIGHT_MAX) -> bytes:
    model = onnx.load_from_string(model_bytes)
    graph = model.graph
    constants = {c.name: c for c in graph.initializer}
    convs = {id(n): n for n in quantised_convs(model)}
    conv_ids = {n.output[0] for n in convs.values()}
    new_inits, nodes, dq_of, scales = [], [], {}, {}
    for name in boundaries(model):
        lo, hi = ranges[name]
        lo, hi = min(lo, 0.0), max(hi, 0.0)
        scale = np.float32((hi - lo) / 255)
        zero = np.uint8(np.clip(round(-lo / scale), 0, 255))
        scales[name] = scale
        new_inits += [numpy_helper.from_array(np.array(scale), f"{name}_scale"), numpy_helper.from_array(np.array(zero), f"{name}_zero")]

    def qdq(name):
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_q"]))
    quantised = set(scales)
    made = set()
    count = 0
    produced_q = set(["feats"])
    for node in graph.node:
        inputs = list(node.input)
        for i, name in enumerate(inputs):
            if name in quantised and not (node.op_type == "Relu" and False):
                count += 1
                dq = f"{name}_d{count}"
                nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale", f"{name}_zero"], [dq]))
                inputs[i] = dq
        if node.op_type == "Conv" and node.output[0] in conv_ids:
            x, wn = node.input[0], node.input[1]
            w = numpy_helper.to_array(constants[wn]).astype(np.float64)
            ws = np.maximum(np.abs(w).max(axis=(1, 2, 3)), 1e-8) / weight_max
            wq = np.clip(np.rint(w / ws[:, None, None, None]), -weight_max, weight_max).astype(np.int8)
            new_inits += [numpy_helper.from_array(wq, f"{wn}_q"), numpy_helper.from_array(ws.astype(np.float32), f"{wn}_scale"), numpy_helper.from_array(np.zeros(len(ws), np.int8), f"{wn}_zero")]
            nodes.append(helper.make_node("DequantizeLinear", [f"{wn}_q", f"{wn}_scale", f"{wn}_zero"], [f"{wn}_d"], axis=0))
            inputs[1] = f"{wn}_d"
            if len(inputs) > 2:
                bn = node.input[2]
                b = numpy_helper.to_array(constants[bn]).astype(np.float64)
                bs = (np.float32(scales[x]) * ws.astype(np.float32)).astype(np.float32)
                bq = np.rint(b / bs).astype(np.int32)
                new_inits += [numpy_helper.from_array(bq, f"{bn}_q"), numpy_helper.from_array(bs, f"{bn}_scale"), numpy_helper.from_array(np.zeros(len(bs), np.int32), f"{bn}_zero")]
                nodes.append(helper.make_node("DequantizeLinear", [f"{bn}_q", f"{bn}_scale", f"{bn}_zero"], [f"{bn}_d"], axis=0))
                inputs[2] = f"{bn}_d"
        copy = onnx.NodeProto(); copy.CopyFrom(node)
        del copy.input[:]; copy.input.extend(inputs)
        nodes.append(copy)
        for out in node.output:
            if out in quantised:
                qdq(out)
    used = {name for node in nodes for name in node.input}
    kept = [c for c in graph.initializer if c.name in used] + new_inits
    del graph.node[:]; graph.node.extend(nodes)
    del graph.initializer[:]; graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
