"""A small EfficientNet-Lite with random weights, and made-up pictures of few patterns, for the tests of fine-tuning."""

from __future__ import annotations

import numpy as np

from edge_claid.learn.finetune import TrainingPicture
from edge_claid.models.efficientnet import blocks_of

WIDTH, DEPTH = 0.25, 0.25  # the narrowest network that the table of stages gives
PATTERNS, SIDE = 6, 64


def small_state(width: float = WIDTH, depth: float = DEPTH, seed: int = 0) -> dict[str, np.ndarray]:
    """A state dict whose activations stay about one, so that float32 rounds them little."""
    rng = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {}

    def layer(name: str, norm: str, shape: tuple[int, int, int, int], gain: float) -> None:
        fan = shape[1] * shape[2] * shape[3]
        state[f"{name}.weight"] = rng.normal(0, gain * fan**-0.5, shape).astype(np.float32)
        for part, low, high in (
            ("weight", 0.8, 1.2),
            ("bias", 0, 0.3),
            ("running_mean", -0.1, 0.1),
            ("running_var", 0.8, 1.2),
        ):
            state[f"{norm}.{part}"] = rng.uniform(low, high, shape[0]).astype(np.float32)

    layer("_conv_stem", "_bn0", (32, 3, 3, 3), 1.4)
    blocks = blocks_of(width, depth)
    for index, block in enumerate(blocks):
        name, wide = f"_blocks.{index}", block.inputs * block.expansion
        if block.expansion != 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", (wide, block.inputs, 1, 1), 1.4)
        layer(f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, block.kernel, block.kernel), 1.4)
        layer(f"{name}._project_conv", f"{name}._bn2", (block.outputs, wide, 1, 1), 1.0)
    layer("_conv_head", "_bn1", (1280, blocks[-1].outputs, 1, 1), 1.4)
    return state


class MadeUpPictures:
    """Pictures of two shapes, each of four by two patches that hold one of a few patterns and noise."""

    def __init__(self, count: int = 40, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        patterns = rng.normal(size=(PATTERNS, 3, SIDE // 2, SIDE // 4))
        self._pictures = [self._made(patterns, rng, tall=index % 2 == 1) for index in range(count)]

    @staticmethod
    def _made(patterns: np.ndarray, rng: np.random.Generator, tall: bool) -> TrainingPicture:
        rows = [np.concatenate(list(patterns[rng.integers(0, PATTERNS, 4)]), axis=2) for _ in range(2)]
        image = (np.concatenate(rows, axis=1) + 0.5 * rng.normal(size=(3, SIDE, SIDE))).astype(np.float32)
        down, across = SIDE // 2, SIDE // 4
        corners = np.array([(x * across, y * down) for y in range(2) for x in range(4)])
        boxes = np.concatenate([corners, corners + np.array([across, down])], axis=1)
        if tall:
            image = image.transpose(0, 2, 1)[:, :, : SIDE - 16]
            boxes = boxes[:, [1, 0, 3, 2]] * [(SIDE - 16) / SIDE, 1, (SIDE - 16) / SIDE, 1]
        # The picture itself is twice as large as what the network sees of it.
        size = (2 * image.shape[2], 2 * image.shape[1])
        return TrainingPicture(np.ascontiguousarray(image), (2 * boxes).astype(np.float32), size)

    @property
    def regions(self) -> list[int]:
        return [len(picture.boxes) for picture in self._pictures]

    def __getitem__(self, index: int) -> TrainingPicture:
        return self._pictures[index]
