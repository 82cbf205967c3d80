"""How much memory a network's activations need at once, from its graph: for budgets of boards that are not at hand."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

from edge_claid.engines.recipe import Shape

# Done in place or by naming memory anew: they take none of their own.
_FREE = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Clip", "Relu", "Cast", "Constant"}


def peak_activation_bytes(path: Path, shape: Shape, element_bytes: int) -> int:
    """Largest sum of the tensors that are alive at once when the nodes run one after another in the graph's order.

    path: ONNX with the input ``image`` (batch, 3, height, width). shape: (batch, height, width). element_bytes: 2 for
    fp16, 4 for fp32. Kernels that fuse nodes need less, scratch memory of kernels comes on top.
    """
    graph = _with_shapes(path, shape).graph
    sizes = {value.name: _elements(value) * element_bytes for value in (*graph.value_info, *graph.output, *graph.input)}
    last_use = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last_use |= {value.name: len(graph.node) for value in graph.output}
    owner: dict[str, str] = {value.name: value.name for value in graph.input}
    users: dict[str, int] = {value.name: last_use.get(value.name, 0) for value in graph.input}
    peak = 0
    for index, node in enumerate(graph.node):
        for name in node.output:
            root = owner.get(node.input[0], name) if node.op_type in _FREE and node.input else name
            owner[name] = root
            users[root] = max(users.get(root, index), last_use.get(name, index))
        peak = max(peak, sum(sizes.get(name, 0) for name, last in users.items() if last >= index))
        users = {name: last for name, last in users.items() if last > index}
    return peak


def _with_shapes(path: Path, shape: Shape) -> onnx.ModelProto:
    """The graph with its input fixed and what depends on that alone computed, so that every size is known."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    for name, value in zip(("batch", "height", "width"), shape, strict=True):
        options.add_free_dimension_override_by_name(name, value)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "fixed.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    return onnx.shape_inference.infer_shapes(model, False, False, True)


def _elements(value: onnx.ValueInfoProto) -> int:
    count = 1
    for dim in value.type.tensor_type.shape.dim:
        count *= dim.dim_value
    return count
