"""Int8 by explicit, symmetric Q/DQ: weights per output channel, activations by calibrated ranges.

Only products with constant weights are quantised (MatMul, Gemm, Conv), by a pair of QuantizeLinear and DequantizeLinear
before each of their two inputs; TensorRT fuses the pairs into int8 kernels, ONNX Runtime computes the same values.
Symmetric because TensorRT knows nothing else; biases stay as they are, since its parser refuses them quantised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edge_claid.errors import BuildError

OPERATORS = ("MatMul", "Gemm", "Conv")
METHODS = ("entropy", "percentile", "max")
_MOST = 127  # of symmetric int8
_BINS = 4096
_LEVELS = 128


@dataclass(frozen=True)
class Product:
    """A node with constant weights: its activation and weight tensors, and the weights' axis of output channels."""

    node: str
    operator: str
    activation: str
    weight: str
    axis: int


def products(model: onnx.ModelProto, operators: Collection[str] = OPERATORS) -> list[Product]:
    """The nodes that can be quantised, in the graph's order. Raises BuildError where one has no name."""
    weights = {value.name: value for value in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in operators or len(node.input) < 2 or node.input[1] not in weights:
            continue
        if not node.name:
            raise BuildError(f"a {node.op_type} that makes {node.output[0]} has no name to know it by")
        found.append(Product(node.name, node.op_type, node.input[0], node.input[1], _output_axis(node, weights)))
    return found


def activation_ranges(
    model: onnx.ModelProto,
    chosen: Sequence[Product],
    inputs: Sequence[np.ndarray],
    *,
    method: str = "entropy",
    percentile: float = 99.99,
    threads: int = 1,
) -> dict[str, float]:
    """Largest magnitude that each product's activation is to represent; beyond it values saturate.

    inputs: what the network takes, one array a picture. method: "entropy" loses least information about the histogram
    of magnitudes (Migacz, 8-bit Inference with TensorRT, GTC 2017), "percentile" keeps that share of values, "max" all.
    """
    names = sorted({product.activation for product in chosen})
    inner = [name for name in names if name != "image"]
    session = _session(with_outputs(model, inner), threads)

    def activations(batch: np.ndarray) -> dict[str, np.ndarray]:
        found = session.run(inner, {"image": batch}) if inner else []
        return {"image": batch, **dict(zip(inner, found, strict=True))}

    largest = dict.fromkeys(names, 0.0)
    for batch in inputs:
        values = activations(batch)
        largest = {name: max(most, float(np.abs(values[name]).max())) for name, most in largest.items()}
    if method == "max":
        return largest
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    for batch in inputs:
        values = activations(batch)
        for name, most in largest.items():
            if most:
                counts[name] += np.histogram(np.abs(values[name]), _BINS, (0.0, most))[0]
    kept = _entropy_bins if method == "entropy" else lambda bins: _percentile_bins(bins, percentile)
    return {name: largest[name] * kept(counts[name]) / _BINS for name in names}


def quantised(model: onnx.ModelProto, chosen: Iterable[Product], ranges: dict[str, float]) -> onnx.ModelProto:
    """A copy of the network with Q/DQ pairs around these products. ranges: by ``activation_ranges``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, by_node = copy.graph, {product.node: product for product in chosen}
    weights = {value.name: value for value in graph.initializer}
    made: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        product = by_node.get(node.name)
        if product is not None:
            if product.activation not in made:
                made[product.activation] = _pair_of_activation(graph, nodes, product.activation, ranges)
            if product.weight not in made:
                made[product.weight] = _pair_of_weight(graph, nodes, weights[product.weight], product.axis)
            node.input[0], node.input[1] = made[product.activation], made[product.weight]
        nodes.append(node)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)
    _drop_unused_weights(graph)
    return copy


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy that gives these tensors too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    for name in names:
        if name not in known:
            copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return copy


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _output_axis(node: onnx.NodeProto, weights: dict[str, TensorProto]) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return len(weights[node.input[1]].dims) - 1


def _pair_of_activation(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], name: str, ranges: dict[str, float]
) -> str:
    scale = np.float32(max(ranges[name], 1e-12) / _MOST)
    return _pair(graph, nodes, name, name, np.array(scale, np.float32), None)


def _pair_of_weight(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], weight: TensorProto, axis: int) -> str:
    values = numpy_helper.to_array(weight)
    others = tuple(index for index in range(values.ndim) if index != axis)
    scale = np.maximum(np.abs(values).max(axis=others), 1e-12).astype(np.float32) / np.float32(_MOST)
    return _pair(graph, nodes, weight.name, weight.name, scale, axis)


def _pair(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], source: str, name: str, scale: np.ndarray, axis: int | None
) -> str:
    low, high = f"{name}.int8", f"{name}.dequantised"
    zero = np.zeros(scale.shape, np.int8)
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.int8.scale"))
    graph.initializer.append(numpy_helper.from_array(zero, f"{name}.int8.zero"))
    facts, along = [f"{name}.int8.scale", f"{name}.int8.zero"], {} if axis is None else {"axis": axis}
    nodes.append(helper.make_node("QuantizeLinear", [source, *facts], [low], name=f"{low}.node", **along))
    nodes.append(helper.make_node("DequantizeLinear", [low, *facts], [high], name=f"{high}.node", **along))
    return high


def _drop_unused_weights(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _percentile_bins(counts: np.ndarray, percentile: float) -> int:
    """Bins that hold this share, in per cent, of the values."""
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    return int(np.searchsorted(share, percentile / 100.0)) + 1


def _entropy_bins(counts: np.ndarray) -> int:
    """Bins to keep so that 128 levels over them tell the histogram best: least Kullback-Leibler divergence."""
    best, chosen = np.inf, _BINS
    total = counts.sum()
    for bins in range(_LEVELS, _BINS + 1, _LEVELS // 2):
        wanted = counts[:bins].astype(np.float64)
        wanted[-1] += counts[bins:].sum()
        if not wanted.sum():
            continue
        divergence = _divergence(wanted, counts[:bins].astype(np.float64)) if total else 0.0
        if divergence < best:
            best, chosen = divergence, bins
    return chosen


def _divergence(wanted: np.ndarray, counts: np.ndarray) -> float:
    edges = np.linspace(0, len(counts), _LEVELS + 1).astype(np.int64)
    level = np.repeat(np.arange(_LEVELS), np.diff(edges))
    there = counts > 0
    sums = np.bincount(level, counts, _LEVELS)
    filled = np.bincount(level, there, _LEVELS)
    told = np.where(there, (sums / np.maximum(filled, 1))[level], 0.0)
    p, q = wanted / wanted.sum(), told / max(told.sum(), 1e-12)
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))).sum())
