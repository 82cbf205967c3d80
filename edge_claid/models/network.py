"""A network ready to run: fetched, converted and cut on first use, kept in the cache."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edge_claid.errors import MachineError
from edge_claid.models.cache import atomic_file, lock, models_folder
from edge_claid.models.efficientnet import efficientnet_lite_onnx
from edge_claid.models.exported import exported_file, layer_name
from edge_claid.models.fetch import fetch_weights, weights_path
from edge_claid.models.quantise import dynamic_int8
from edge_claid.models.torch_file import read_state_dict
from edge_claid.models.vit import cut
from edge_claid.models.zoo import ZooEntry, entry

log = logging.getLogger("edge_claid.models")

# Part of a built file's name. Raise it when a change here or in the builders changes what they write.
BUILDER_VERSION = 3


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """One network's ready ONNX and what one must know to use it.

    path: ONNX with one input ``image`` (B, 3, H, W) float32, H and W multiples of ``input_multiple``; its first output
        is the layer, the others are the inner maps.
    source_sha256: of the weights it was made from, the same for all variants and layers.
    mean, std: (3,) float32; the input is (x / 255 - mean) / std on RGB.
    stride: pixels of the input between two tokens or cells of the output.
    output: "tokens" (B, N, feature_dim), row-major over the grid H / stride x W / stride, no class token; or
        "map" (B, feature_dim, H / stride, W / stride).
    inner_dims: channels of the maps of finer strides that come with the layer, in the order of the outputs; often none.
    mean_token: (feature_dim,) float32, the mean token of this layer over many pictures, or None.
    """

    name: str
    path: Path
    variant: str
    layer: int
    source_sha256: str
    mean: np.ndarray
    std: np.ndarray
    stride: int
    input_multiple: int
    output: str
    feature_dim: int
    inner_dims: tuple[int, ...]
    mean_token: np.ndarray | None
    licence: str


def open_network(
    name: str, *, variant: str = "fp32", layer: int | None = None, cache_dir: Path | None = None
) -> NetworkFile:
    """A network of the zoo as a ready ONNX, built on first use.

    layer: see ``layers`` in zoo.toml; None is the default. cache_dir stands for ``$XDG_CACHE_HOME/edge-claid``.
    Raises UsageError (name, variant, layer), MachineError (weights not to be had), BuildError, StorageError.
    """
    known = entry(name)
    layer, variant = known.checked_layer(layer), known.checked_variant(variant)
    weights_sha256 = source_sha256(known, cache_dir)
    key = hashlib.sha256(f"{BUILDER_VERSION} {weights_sha256} {layer} {variant}".encode()).hexdigest()[:12]
    path = models_folder(cache_dir) / f"{name}-layer{layer}-{variant}-{key}.onnx"
    if not path.is_file():
        with lock(path.with_name(f".{path.name}.lock")):
            if not path.is_file():
                _build(known, layer, variant, path, cache_dir)
    return NetworkFile(
        name=name,
        path=path,
        variant=variant,
        layer=layer,
        source_sha256=weights_sha256,
        mean=np.array(known.mean, np.float32),
        std=np.array(known.std, np.float32),
        stride=known.layer_strides.get(layer, known.stride),
        input_multiple=known.stride,
        output=known.output,
        feature_dim=known.layer_dims.get(layer, known.feature_dim),
        inner_dims=known.inner_dims if layer == known.layer else (),
        mean_token=known.mean_token(layer),
        licence=known.licence,
    )


def source_sha256(known: ZooEntry, cache_dir: Path | None = None) -> str:
    """SHA-256 of a network's weights, fetched or not. Raises MachineError for one to be exported that is not here."""
    return known.wheel.member_sha256 if known.wheel else exported_file(known, cache_dir).stem[-64:]


def is_here(known: ZooEntry, cache_dir: Path | None = None) -> bool:
    """Whether the network can be opened without fetching anything."""
    if known.wheel:
        return weights_path(known, cache_dir).is_file()
    try:
        return exported_file(known, cache_dir).is_file()
    except MachineError:
        return False


def _build(known: ZooEntry, layer: int, variant: str, path: Path, cache_dir: Path | None) -> None:
    weights = fetch_weights(known, cache_dir) if known.wheel else exported_file(known, cache_dir)
    log.info("building %s (layer %d, %s)", known.name, layer, variant)
    model = _BUILDERS[known.kind](known, weights, layer)
    if variant == "int8":
        model = dynamic_int8(model)
    with atomic_file(path) as part:
        part.write_bytes(model.SerializeToString())


def _vit(known: ZooEntry, weights: Path, layer: int) -> onnx.ModelProto:
    names = known.build["tensors"]
    tensor = names["end"] if layer == -1 else names["block"].format(layer=layer)
    model = onnx.load(weights)
    dims: list[str | int] = ["batch", "tokens", known.feature_dim]
    return cut(model, source=names["input"], tensor=tensor, output="tokens", dims=dims, skip=1)


def _efficientnet(known: ZooEntry, weights: Path, layer: int) -> onnx.ModelProto:
    state = read_state_dict(weights.read_bytes())
    return efficientnet_lite_onnx(state, width=known.build["width"], depth=known.build["depth"], stride=layer)


def _timm(known: ZooEntry, weights: Path, layer: int) -> onnx.ModelProto:
    tensor = layer_name(known, layer)
    if known.output == "tokens":
        dims: list[str | int] = ["batch", "tokens", known.feature_dim]
    else:
        dims = ["batch", known.layer_dims.get(layer, known.feature_dim), "rows", "columns"]
    skip = known.build.get("prefix", 0)
    return cut(onnx.load(weights), source="image", tensor=tensor, output=known.output, dims=dims, skip=skip)


def _tuned(known: ZooEntry, weights: Path, layer: int) -> onnx.ModelProto:
    return onnx.load(weights)


_BUILDERS = {
    "vit-onnx": _vit, "efficientnet-lite": _efficientnet, "timm-vit": _timm, "timm-resnet": _timm, "tuned": _tuned,
}  # fmt: skip
