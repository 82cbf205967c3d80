"""Int8 and fp8 by explicit, symmetric Q/DQ: weights per output channel, activations by calibrated ranges.

Only products with constant weights are quantised (MatMul, Gemm, Conv), by a pair of QuantizeLinear and DequantizeLinear
before each of their two inputs; TensorRT fuses the pairs into its kernels, ONNX Runtime computes the same values.
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
_BINS = 4096
_LEVELS = 128


@dataclass(frozen=True)
class EightBits:
    """A form of 8-bit numbers: its ONNX type, its largest value, and the opset that has it."""

    name: str
    kind: int
    most: float
    opset: int


INT8 = EightBits("int8", TensorProto.INT8, 127.0, 13)
# E4M3 without infinities, the form that GPUs multiply (SM 8.9, 9.0 and later).
FP8 = EightBits("fp8", TensorProto.FLOAT8E4M3FN, 448.0, 19)


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


def quantised(
    model: onnx.ModelProto,
    chosen: Iterable[Product],
    ranges: dict[str, float],
    half: onnx.ModelProto | None = None,
    form: EightBits = INT8,
) -> onnx.ModelProto:
    """A copy of the float32 network with Q/DQ pairs around these products. ranges: by ``activation_ranges``.

    half: the same network at fp16, which is then the one that is copied. Quantised products stay in float32 there,
    between casts that stand outside of the pairs, as TensorRT wants no cast between a pair and its product.
    form: of the numbers; the network must be of its opset or later.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model if half is None else half)
    weights = {value.name: value for value in model.graph.initializer}
    pairs = _Pairs(copy.graph, weights, {product.node: product for product in chosen}, ranges, half is not None, form)
    nodes = [made for node in copy.graph.node for made in pairs.around(node)]
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(ordered)
    _drop_unused_weights(copy.graph)
    return copy


class _Pairs:
    """Writes Q/DQ pairs before products, one pair a tensor."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        weights: dict[str, TensorProto],
        chosen: dict[str, Product],
        ranges: dict[str, float],
        half: bool,
        form: EightBits,
    ) -> None:
        self._form = form
        self._graph, self._weights, self._chosen, self._ranges, self._half = graph, weights, chosen, ranges, half
        self._made: dict[str, str] = {}

    def around(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A node with what must stand before and after it."""
        product = self._chosen.get(node.name)
        if product is None:
            return [node]
        nodes: list[onnx.NodeProto] = []
        # At fp16 the activation may come through a cast of another name.
        node.input[0] = self._activation(node.input[0], self._ranges[product.activation], nodes)
        node.input[1] = self._weight(product, nodes)
        if not self._half:
            return [*nodes, node]
        for index in range(2, len(node.input)):
            node.input[index] = self._constant(f"{node.input[index]}.float", self._weights[node.input[index]])
        output = node.output[0]
        node.output[0] = f"{output}.product"
        back = helper.make_node("Cast", [node.output[0]], [output], name=f"{output}.half", to=TensorProto.FLOAT16)
        return [*nodes, node, back]

    def _activation(self, name: str, largest: float, nodes: list[onnx.NodeProto]) -> str:
        if name not in self._made:
            source = name
            if self._half:
                source = f"{name}.float"
                nodes.append(helper.make_node("Cast", [name], [source], name=f"{source}.node", to=TensorProto.FLOAT))
            scale = np.array(max(largest, 1e-12) / self._form.most, np.float32)
            self._made[name] = self._pair(source, name, scale, None, nodes)
        return self._made[name]

    def _weight(self, product: Product, nodes: list[onnx.NodeProto]) -> str:
        name = product.weight
        if name not in self._made:
            values = numpy_helper.to_array(self._weights[name])
            others = tuple(index for index in range(values.ndim) if index != product.axis)
            scale = np.maximum(np.abs(values).max(axis=others), 1e-12).astype(np.float32)
            scale /= np.float32(self._form.most)
            source = self._constant(f"{name}.float", self._weights[name]) if self._half else name
            self._made[name] = self._pair(source, name, scale, product.axis, nodes)
        return self._made[name]

    def _constant(self, name: str, value: TensorProto) -> str:
        if name not in self._made:
            self._graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(value), name))
            self._made[name] = name
        return name

    def _pair(self, source: str, name: str, scale: np.ndarray, axis: int | None, nodes: list[onnx.NodeProto]) -> str:
        low, high, form = f"{name}.{self._form.name}", f"{name}.dequantised", self._form
        facts = [f"{low}.scale", f"{low}.zero"]
        self._graph.initializer.append(numpy_helper.from_array(scale, facts[0]))
        zeros = helper.make_tensor(facts[1], form.kind, scale.shape, bytes(scale.size), raw=True)
        self._graph.initializer.append(zeros)
        along = {} if axis is None else {"axis": axis}
        nodes.append(helper.make_node("QuantizeLinear", [source, *facts], [low], name=f"{low}.node", **along))
        nodes.append(helper.make_node("DequantizeLinear", [low, *facts], [high], name=f"{high}.node", **along))
        return high


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
