"""EfficientNet-Lite as a torch module that learns; its ONNX twin is built by edge_claid/models/efficientnet.py."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edge_claid.errors import BuildError
from edge_claid.models.efficientnet import BATCH_NORM_EPSILON, INNER_STRIDES, Block, blocks_of

# §4.2 fine-tunes all convolutions except the first two groups of VGG16, which end at stride 4.
FIXED_STRIDE = 4


class FixedNorm(nn.Module):
    """Batch normalisation by what the network was trained with: neither its statistics nor its scale ever change.

    A batch here holds few pictures, and the ONNX folds these numbers into the convolutions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(part, torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        statistics = self.running_mean, self.running_var
        return functional.batch_norm(x, *statistics, self.weight, self.bias, eps=BATCH_NORM_EPSILON)


class SameConvolution(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's SAME pads at any size: the odd pixel at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padding: list[int] = []
        for size in (x.shape[3], x.shape[2]):  # torch pads the last axis first
            missing = max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            padding += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(x, padding) if any(padding) else x)


class InvertedResidual(nn.Module):
    """One block. forward: x -> (y, what x was expanded to)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        wide = block.inputs * block.expansion
        self._expands = block.expansion != 1
        self._adds = block.stride == 1 and block.inputs == block.outputs
        if self._expands:
            self._expand_conv, self._bn0 = SameConvolution(block.inputs, wide), FixedNorm(wide)
        self._depthwise_conv = SameConvolution(wide, wide, block.kernel, block.stride, groups=wide)
        self._bn1 = FixedNorm(wide)
        self._project_conv, self._bn2 = SameConvolution(wide, block.outputs), FixedNorm(block.outputs)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        expanded = functional.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(expanded)))
        y = self._bn2(self._project_conv(y))
        return (y + x if self._adds else y), expanded


class EfficientNetLite(nn.Module):
    """(B, 3, H, W) float32 -> the maps of strides 32, 16 and 8, as the ONNX's ``map``, ``inner16`` and ``inner8``.

    Its state dict has the names that efficientnet_lite_onnx takes. What lies at strides up to FIXED_STRIDE is fixed.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        blocks = blocks_of(width, depth)
        self.width, self.depth = width, depth
        self._conv_stem, self._bn0 = SameConvolution(3, 32, 3, 2), FixedNorm(32)
        self._blocks = nn.ModuleList(InvertedResidual(block) for block in blocks)
        self._conv_head, self._bn1 = SameConvolution(blocks[-1].outputs, 1280), FixedNorm(1280)
        strides = np.cumprod([2] + [block.stride for block in blocks])[1:]
        self._inner = {
            max(i for i, block in enumerate(blocks) if block.stride == 2 and strides[i] == 2 * stride): stride
            for stride in INNER_STRIDES
        }
        self.first_trained = int((strides <= FIXED_STRIDE).sum())
        for fixed in (self._conv_stem, *self._blocks[: self.first_trained]):
            fixed.requires_grad_(False)

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], width: float, depth: float) -> EfficientNetLite:
        """The network with these weights, as read_state_dict gives them; what it has no use for is passed over.

        Raises BuildError where a tensor is missing or has another shape.
        """
        network = cls(width, depth)
        try:
            network.load_state_dict({name: torch.from_numpy(state[name]) for name in network.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise BuildError(f"the weights are not those of this network: {error}") from error
        return network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inner = {}
        x = functional.relu6(self._bn0(self._conv_stem(image)))
        for index, block in enumerate(self._blocks):
            x, expanded = block(x)
            if index in self._inner:
                inner[self._inner[index]] = expanded
        head = functional.relu6(self._bn1(self._conv_head(x)))
        return head, *(inner[stride] for stride in INNER_STRIDES)
