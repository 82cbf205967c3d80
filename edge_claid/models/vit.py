"""Cuts an ONNX network after the layer in use: symbolic input size, one input ``image``, one output."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_claid.errors import BuildError


def cut(
    model: onnx.ModelProto, *, source: str, tensor: str, output: str, dims: list[str | int], skip: int = 0
) -> onnx.ModelProto:
    """The part of a network that computes one tensor.

    source: its image input, (B, 3, H, W) float32, renamed to ``image`` with B, H and W symbolic.
    tensor: the tensor to keep, renamed to ``output``; dims: what its axes are called, or their sizes.
    skip: leading rows of axis 1 that are left out (1 for a class token). Raises BuildError where a tensor is missing.
    """
    if source not in {value.name for value in model.graph.input}:
        raise BuildError(f"the network has no input {source}")
    nodes = needed_nodes(model.graph, tensor)
    for node in nodes:
        for index, name in enumerate(node.input):
            if name == source:
                node.input[index] = "image"
    used = {name for node in nodes for name in node.input}
    weights = [value for value in model.graph.initializer if value.name in used]
    if skip:
        for name, value in (("from", skip), ("to", np.iinfo(np.int64).max), ("axis", 1)):
            weights.append(numpy_helper.from_array(np.array([value], np.int64), f"{output}.{name}"))
        nodes.append(helper.make_node("Slice", [tensor, *(f"{output}.{n}" for n in ("from", "to", "axis"))], [output]))
    else:
        nodes.append(helper.make_node("Identity", [tensor], [output]))
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, dims)],
        weights,
    )
    result = helper.make_model(graph, opset_imports=model.opset_import, producer_name="edge-claid")
    result.ir_version = model.ir_version
    onnx.checker.check_model(result)
    return result


def needed_nodes(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    """Copies of the nodes that ``tensor`` depends on, in the graph's order. Raises BuildError where none makes it."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    if tensor not in makers:
        raise BuildError(f"the network has no tensor {tensor}")
    needed: set[int] = set()
    waiting = [makers[tensor]]
    while waiting:
        index = waiting.pop()
        if index in needed:
            continue
        needed.add(index)
        waiting += [makers[name] for name in graph.node[index].input if name in makers]
    copies = []
    for index in sorted(needed):
        copy = onnx.NodeProto()
        copy.CopyFrom(graph.node[index])
        copies.append(copy)
    return copies
