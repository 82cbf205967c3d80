"""Builds EfficientNet-Lite as ONNX from its torch state dict, batch normalisation folded into the convolutions.

Architecture: the Lite variants of EfficientNet (Tan and Le, arXiv:1905.11946) as TensorFlow's
efficientnet/lite/efficientnet_lite_builder.py gives them: no squeeze-and-excitation, ReLU6, stem and head not scaled.
The state dict names its parts as efficientnet-lite-pytorch 0.1.0 does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_claid.errors import BuildError

BATCH_NORM_EPSILON = 1e-3
OPSET = 17
INNER_STRIDES = (16, 8)  # of the maps given beside the head's


@dataclass(frozen=True)
class Stage:
    """One row of the architecture table: blocks of equal kernel and width, the first of them with the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Block:
    """One inverted-residual block; channels are its input's and output's."""

    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


def blocks_of(width: float, depth: float) -> list[Block]:
    """The blocks of the network with these width and depth coefficients, first to last."""
    blocks, inputs = [], 32
    for row, stage in enumerate(STAGES):
        outputs = rounded_channels(stage.channels, width)
        # Lite networks keep the depth of the first and the last stage.
        repeats = stage.repeats if row in (0, len(STAGES) - 1) else math.ceil(depth * stage.repeats)
        for repeat in range(repeats):
            blocks.append(Block(stage.kernel, stage.stride if repeat == 0 else 1, stage.expansion, inputs, outputs))
            inputs = outputs
    return blocks


def rounded_channels(channels: int, width: float) -> int:
    """Channels scaled by the width coefficient, to a multiple of 8, at most 10 % narrower (TensorFlow's rule)."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def efficientnet_lite_onnx(
    state: dict[str, np.ndarray], *, width: float, depth: float, stride: int = 32
) -> onnx.ModelProto:
    """The network as ONNX: input ``image`` (B, 3, H, W) float32, output ``map`` (B, C, H / stride, W / stride).

    state: tensors by name. stride: 32 for the head's 1,280 channels after ReLU6; 16 for the last block before the
    stride-32 stage (no activation follows it). For 32 there are two outputs more, ``inner16`` and ``inner8``: what the
    first block of the next stage expands the last map of that stride to, after ReLU6. H and W are free; every
    convolution pads as TensorFlow's SAME does, so sizes that are no multiple of the stride give ceil(H / stride) rows.
    Raises BuildError where a tensor is missing or has another shape.
    """
    if stride not in (16, 32):
        raise BuildError(f"EfficientNet-Lite has no map of stride {stride}: choose 16 or 32")
    builder = _Builder(state)
    x = builder.convolution("image", "_conv_stem", "_bn0", (32, 3, 3, 3), stride=2)
    blocks = blocks_of(width, depth)
    strides = np.cumprod([2] + [block.stride for block in blocks])[1:]
    kept = [block for block, reached in zip(blocks, strides, strict=True) if reached <= stride]
    for index, block in enumerate(kept):
        x = builder.block(x, f"_blocks.{index}", block)
    channels = kept[-1].outputs
    if stride == 16:
        return builder.model({"map": (x, channels)})
    outputs = {"map": (builder.convolution(x, "_conv_head", "_bn1", (1280, channels, 1, 1)), 1280)}
    for inner in INNER_STRIDES:
        index = max(i for i, block in enumerate(blocks) if block.stride == 2 and strides[i] == 2 * inner)
        expanded = f"_blocks.{index}._expand_conv.relu6"
        outputs[f"inner{inner}"] = (expanded, blocks[index].inputs * blocks[index].expansion)
    return builder.model(outputs)


class _Builder:
    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self._state = state
        self._nodes: list[onnx.NodeProto] = []
        self._weights = [
            numpy_helper.from_array(np.float32(0), "relu6.low"),
            numpy_helper.from_array(np.float32(6), "relu6.high"),
        ]

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        value = self._state.get(name)
        if value is None:
            raise BuildError(f"the state dict has no tensor {name}: is this the network that was asked for?")
        if value.shape != shape or value.dtype != np.float32:
            raise BuildError(f"tensor {name} is {value.shape} {value.dtype}, expected {shape} float32")
        return value

    def convolution(
        self,
        x: str,
        name: str,
        norm: str,
        shape: tuple[int, int, int, int],
        *,
        stride: int = 1,
        group: int = 1,
        relu6: bool = True,
    ) -> str:
        weight = self.tensor(f"{name}.weight", shape).astype(np.float64)
        gamma, beta, mean, variance = (
            self.tensor(f"{norm}.{part}", shape[:1]).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        folded = (weight * scale[:, None, None, None]).astype(np.float32)
        self._weights.append(numpy_helper.from_array(folded, f"{name}.weight"))
        self._weights.append(numpy_helper.from_array((beta - mean * scale).astype(np.float32), f"{name}.bias"))
        self._nodes.append(
            helper.make_node(
                "Conv", [x, f"{name}.weight", f"{name}.bias"], [name], name=name, kernel_shape=shape[2:],
                strides=(stride, stride), group=group, auto_pad="SAME_UPPER",
            )
        )  # fmt: skip
        if not relu6:
            return name
        self._nodes.append(helper.make_node("Clip", [name, "relu6.low", "relu6.high"], [f"{name}.relu6"]))
        return f"{name}.relu6"

    def block(self, x: str, name: str, block: Block) -> str:
        wide = block.inputs * block.expansion
        y = x
        if block.expansion != 1:
            y = self.convolution(y, f"{name}._expand_conv", f"{name}._bn0", (wide, block.inputs, 1, 1))
        kernel = (wide, 1, block.kernel, block.kernel)
        y = self.convolution(y, f"{name}._depthwise_conv", f"{name}._bn1", kernel, stride=block.stride, group=wide)
        y = self.convolution(y, f"{name}._project_conv", f"{name}._bn2", (block.outputs, wide, 1, 1), relu6=False)
        if block.stride != 1 or block.inputs != block.outputs:
            return y
        self._nodes.append(helper.make_node("Add", [y, x], [f"{name}.sum"]))
        return f"{name}.sum"

    def model(self, outputs: dict[str, tuple[str, int]]) -> onnx.ModelProto:
        """outputs: name to the tensor it shows and its channels."""
        shown = []
        for name, (tensor, channels) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [name]))
            dims = ["batch", channels, f"{name}.rows", f"{name}.columns"]
            shown.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        graph = helper.make_graph(
            self._nodes,
            "efficientnet-lite",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
            shown,
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="edge-claid")
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model
