"""Write the small spoofing network as an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_graphs import ML_DOMAIN, Array, Graph

MIN_SHARE = 0.002
"""Shares of trees are clipped away from 0 and 1, whose odds have no logarithm."""
LIMIT = 6.0
"""Features are clipped at this many deviations from those of real speech."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The trained parameters, for the features of `sonant.voice.spoofing.features`."""

    mean: Array
    deviation: Array
    trees: Sequence[Any]
    """The `tree_` of each of scikit-learn's trees for two classes, genuine and synthetic."""
    vectors: Array
    """Support vectors of a machine with a Gaussian kernel; [vectors, features]."""
    coefficients: Array
    """Their coefficients; [vectors]."""
    intercept: float
    gamma: float
    """Of the kernel exp(-gamma |x - v|^2)."""


def light_detector(light: Light) -> bytes:
    """Build the graph: input `features` [n, f], output `logits` [n], high for synthetic speech.

    It is the sum of the logarithm of the trees' odds and the decision value of the support vector machine.
    """
    g = Graph()
    x = g.node("Sub", "features", g.constant("mean", light.mean.astype(np.float32)))
    x = g.node("Div", x, g.constant("deviation", light.deviation.astype(np.float32)))
    ends = [
        g.constant(name, np.array(value, np.float32)) for name, value in (("low", -LIMIT), ("high", LIMIT))
    ]
    x = g.node("Clip", x, *ends)
    y = g.node("TreeEnsembleRegressor", x, domain=ML_DOMAIN, **_forest(light.trees))
    bounds = [
        g.constant(name, np.array(value, np.float32))
        for name, value in (("least", MIN_SHARE), ("most", 1 - MIN_SHARE), ("one", 1.0))
    ]
    last = g.integers("last", [-1])
    y = g.node("Clip", g.node("Squeeze", y, last), *bounds[:2])
    y = g.node("Div", y, g.node("Sub", bounds[2], y))
    trees = g.node("Log", y)
    y = g.product(x, "vectors", (-2 * light.vectors.T).astype(np.float32))
    own = g.node("ReduceSum", g.node("Mul", x, x), g.integers("features_axis", [1]), keepdims=1)
    y = g.node("Add", g.node("Add", y, own), g.constant("lengths", _lengths(light)))
    y = g.node("Exp", g.node("Mul", y, g.constant("gamma", np.array(-light.gamma, np.float32))))
    y = g.node("Squeeze", g.product(y, "coefficients", light.coefficients[:, None].astype(np.float32)), last)
    y = g.node("Add", y, g.constant("intercept", np.array(light.intercept, np.float32)))
    g.node("Add", trees, y, outputs=["logits"])
    width = len(light.mean)
    return g.serialise("spoofing_light", inputs={"features": ["n", width]}, outputs={"logits": ["n"]})


def _lengths(light: Light) -> Array:
    """Compute the squared lengths of the support vectors; [1, vectors]."""
    return np.asarray(np.square(light.vectors).sum(axis=1)[None], np.float32)


def _forest(trees: Sequence[Any]) -> dict[str, Any]:
    """Build the attributes of ONNX's tree ensemble.

    Every node's branches, every leaf's share of synthetic speech.
    """
    nodes: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for number, tree in enumerate(trees):
        count, leaf = tree.node_count, tree.children_left < 0
        nodes["nodes_treeids"] += [number] * count
        nodes["nodes_nodeids"] += range(count)
        nodes["nodes_featureids"] += np.maximum(tree.feature, 0).tolist()
        nodes["nodes_modes"] += ["LEAF" if end else "BRANCH_LEQ" for end in leaf]
        # scikit-learn compares with doubles: rounding down keeps a float on its side.
        nodes["nodes_values"] += _rounded_down(np.where(leaf, 0.0, tree.threshold)).tolist()
        nodes["nodes_truenodeids"] += np.maximum(tree.children_left, 0).tolist()
        nodes["nodes_falsenodeids"] += np.maximum(tree.children_right, 0).tolist()
        ends = np.flatnonzero(leaf)
        share = tree.value[ends, 0, 1] / tree.value[ends, 0].sum(axis=1) / len(trees)
        leaves["target_treeids"] += [number] * len(ends)
        leaves["target_nodeids"] += ends.tolist()
        leaves["target_ids"] += [0] * len(ends)
        leaves["target_weights"] += share.tolist()
    return {**nodes, **leaves, "n_targets": 1}


def _rounded_down(values: np.ndarray) -> np.ndarray:
    single = values.astype(np.float32)
    return np.where(single > values, np.nextafter(single, np.float32(-np.inf)), single)
