"""Networks small enough to quantise, build and run in a moment, and pictures that tell their outputs apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_claid.config import Settings
from edge_claid.engines.pictures import Seen
from edge_claid.engines.recipe import Gate, Half, Recipe, Shapes
from edge_claid.models import NetworkFile

CHANNELS = 8
SHAPES = Shapes((1, 16, 16), (1, 32, 32), (2, 64, 64))


def save_map_network(path: Path, *, operator: str = "Relu", scale: float = 1.0) -> Path:
    """image -> convolution of stride 8 -> activation -> `map` (B, 8, H / 8, W / 8)."""
    weight = np.random.default_rng(0).normal(0, scale / 8, (CHANNELS, 3, 8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["product"], name="product", strides=[8, 8], kernel_shape=[8, 8]),
        helper.make_node(operator, ["product"], ["map"], name="activation"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    output = helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", CHANNELS, "rows", "columns"])
    graph = helper.make_graph(nodes, "small", [image], [output], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def small_network(path: Path, **changes: object) -> NetworkFile:
    """The record of such a file."""
    facts = NetworkFile(
        name="small", path=path, variant="fp32", layer=8, source_sha256="0" * 64,
        mean=np.array([0.5, 0.4, 0.3], np.float32), std=np.array([0.5, 0.25, 0.2], np.float32),
        stride=8, input_multiple=8, output="map", feature_dim=CHANNELS, inner_dims=(), mean_token=None, licence="none",
    )  # fmt: skip
    return replace(facts, **changes)


def small_recipe(**changes: object) -> Recipe:
    """A recipe for it."""
    gate = Gate(map_cosine_mean=0.99, descriptor_cosine_least=0.99)
    facts = Recipe(
        network="small", layer=8, input="planes", outputs=("map",), precisions=("fp16", "fp32"), shapes=SHAPES,
        half=Half((), ("Relu",)), gate=gate,
    )  # fmt: skip
    return replace(facts, **changes)


def small_settings() -> Settings:
    """Settings whose pooling takes the one map there is."""
    plain = Settings()
    return replace(plain, networks=replace(plain.networks, descriptor_side=64, vit_side=64))


def small_pictures(count: int = 3) -> list[Seen]:
    """Pictures of different colours with a bright part each."""
    pictures = []
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = np.full((32, 48, 3), rng.integers(0, 256, 3), np.uint8)
        pixels[8 * number : 8 * number + 12, 10:30] = rng.integers(0, 256, 3)
        pictures.append(Seen(f"picture {number}", pixels, (96, 64)))
    return pictures
