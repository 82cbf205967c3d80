"""Strongly typed ONNX: precision and normalisation live in the graph, so every TensorRT and ONNX Runtime agree on them.

TensorRT 11 and TensorRT for RTX know no other way; TensorRT 10 takes it with one flag.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from edge_claid.config import NetworkSettings
from edge_claid.engines.pictures import normalised, pictures_of, seen_by
from edge_claid.engines.quantise import FP8, INT8, EightBits, activation_ranges, products, quantised
from edge_claid.engines.recipe import EightBit, Recipe
from edge_claid.errors import BuildError
from edge_claid.models import NetworkFile
from edge_claid.models.cache import atomic_file, models_folder
from edge_claid.models.network import BUILDER_VERSION

# Part of an engine's identity. Raise it when a change here changes what the graphs compute.
TYPED_VERSION = 1
_EIGHT_BITS = {form.name: form for form in (INT8, FP8)}
_IR_OF_FP8 = 9
_NORMALISATION = ("pixels.cast", "pixels.planes", "image.scale", "image.offset")


def typed_onnx(
    network: NetworkFile,
    recipe: Recipe,
    precision: str,
    *,
    wider: bool = False,
    calibration: Sequence[np.ndarray] = (),
) -> onnx.ModelProto:
    """The network as its engine is to compute it: one input ``image`` (see Recipe.input), float32 outputs.

    network: its float32 file. precision: "fp32"; "fp16" (mixed: what the recipe names stays in float32, as does
    everything up to the normalised input); "int8" and "fp8" (products with weights by Q/DQ but those the recipe keeps,
    the rest as at fp16). wider: the recipe's wider float32 set. calibration: for these two, what the float32 network
    takes, one array a picture. Valid for ONNX Runtime too. Raises BuildError for a graph that lacks what the recipe
    names.
    """
    model = _loaded(network.path)
    _keep_outputs(model, recipe)
    if precision in ("fp16", *_EIGHT_BITS):
        form = _EIGHT_BITS.get(precision)
        plain = _of_opset(model, form.opset) if form else model
        model = _half(_copied(plain), recipe, wider)
        if form:
            model = _with_eight_bits(plain, model, recipe, calibration, form)
    elif precision != "fp32":
        raise BuildError(f"{network.name} has no typed graph at {precision}")
    fold_normalisation(model, network.mean, network.std, recipe.input)
    _sort(model)
    onnx.checker.check_model(model)
    return model


def graph_id(source_sha256: str, recipe: Recipe, precision: str, wider: bool = False) -> str:
    """Identity of a typed graph by what it is made from, without making it: 16 hexadecimal digits.

    source_sha256: of the network's weights. The pictures that int8 was calibrated on are no part of it.
    """
    made_by = [TYPED_VERSION, BUILDER_VERSION, source_sha256]
    half = asdict(recipe.half) if precision != "fp32" else None
    eight_bits = asdict(getattr(recipe, precision)) if precision in _EIGHT_BITS else None
    facts = [*made_by, recipe.network, recipe.layer, recipe.input, recipe.outputs, precision, half, eight_bits, wider]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def typed_file(
    network: NetworkFile,
    recipe: Recipe,
    precision: str,
    *,
    wider: bool = False,
    calibration: Path | None = None,
    settings: NetworkSettings | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """The typed graph as a file beside the networks, made on first use. Raises as ``typed_onnx``, and StorageError.

    calibration: folder of the user's pictures for int8 and fp8, None for ours. settings: the sizes they are shown in.
    """
    identity = graph_id(network.source_sha256, recipe, precision, wider)
    pictures = pictures_of(calibration) if precision in _EIGHT_BITS else []
    if pictures:
        contents = hashlib.sha256()
        for picture in pictures:
            contents.update(picture.read_bytes())
        identity += f"-{contents.hexdigest()[:8]}"
    path = models_folder(cache_dir) / f"{network.name}-layer{network.layer}-{precision}-typed-{identity}.onnx"
    if not path.is_file():
        shown = seen_by(pictures, network, recipe, settings or NetworkSettings()) if pictures else []
        inputs = [normalised(seen, network) for seen in shown]
        model = typed_onnx(network, recipe, precision, wider=wider, calibration=inputs)
        with atomic_file(path) as part:
            part.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _half(model: onnx.ModelProto, recipe: Recipe, wider: bool) -> onnx.ModelProto:
    blocked = [*DEFAULT_OP_BLOCK_LIST, *recipe.half.fp32, *(recipe.half.wider if wider else ())]
    made = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    # A tensor that several float32 nodes take is cast once for each, under one name.
    nodes = {tuple(node.output): onnx.NodeProto.FromString(node.SerializeToString()) for node in made.graph.node}
    del made.graph.node[:]
    made.graph.node.extend(nodes.values())
    return made


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The conversion to half writes into what it is given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _with_eight_bits(
    plain: onnx.ModelProto,
    half: onnx.ModelProto,
    recipe: Recipe,
    calibration: Sequence[np.ndarray],
    form: EightBits,
) -> onnx.ModelProto:
    """The network at fp16 with the products of the recipe in 8 bits."""
    known: EightBit = getattr(recipe, form.name)
    every = products(plain, known.quantised)
    unused = [pattern for pattern in known.kept if not any(fnmatchcase(p.node, pattern) for p in every)]
    if unused:
        raise BuildError(f"the recipe of {recipe.network} keeps {', '.join(unused)}, which is no product of it")
    if not calibration:
        raise BuildError(f"{form.name} of {recipe.network} needs calibration pictures")
    chosen = [p for p in every if not any(fnmatchcase(p.node, pattern) for pattern in known.kept)]
    ranges = activation_ranges(plain, chosen, calibration, method=known.method, percentile=known.percentile)
    return quantised(plain, chosen, ranges, half, form)


def _of_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The network in the operators of an opset, if it is older."""
    if max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) >= opset:
        return model
    newer = onnx.version_converter.convert_version(model, opset)
    newer.ir_version = max(newer.ir_version, _IR_OF_FP8)
    return newer


def fold_normalisation(model: onnx.ModelProto, mean: np.ndarray, std: np.ndarray, source: str) -> None:
    """Put normalisation, and for "pixels" the layout too, between the input and the network, in float32.

    source: see Recipe.input. mean, std: (3,), of values in 0 to 1. The input keeps its name.
    """
    scale = (1.0 / (255.0 * np.asarray(std, np.float64))).astype(np.float32).reshape(1, 3, 1, 1)
    offset = (np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32).reshape(1, 3, 1, 1)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "image":
                node.input[index] = "image.normalised"
    first, nodes = "image", []
    kind, dims = TensorProto.FLOAT, ["batch", 3, "height", "width"]
    if source == "pixels":
        kind, dims = TensorProto.UINT8, ["batch", "height", "width", 3]
        cast, planes = _NORMALISATION[:2]
        nodes.append(helper.make_node("Cast", ["image"], [cast], name=cast, to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Transpose", [cast], [planes], name=planes, perm=[0, 3, 1, 2]))
        first = planes
    nodes.append(helper.make_node("Mul", [first, "image.scale"], ["image.scaled"], name="image.scale.node"))
    nodes.append(
        helper.make_node("Sub", ["image.scaled", "image.offset"], ["image.normalised"], name="image.offset.node")
    )
    model.graph.initializer.append(numpy_helper.from_array(scale, "image.scale"))
    model.graph.initializer.append(numpy_helper.from_array(offset, "image.offset"))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("image", kind, dims))


def _loaded(path: Path) -> onnx.ModelProto:
    """A network file that was checked. Raises BuildError for one that cannot be read."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        if not model.graph.node:  # an empty file is a valid message
            raise ValueError("it holds no network")
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        again = "delete it and run `edge-claid models fetch`"
        raise BuildError(f"{path} cannot be read ({reason}): {again}") from error
    return model


def _sort(model: onnx.ModelProto) -> None:
    """Every node after those whose outputs it takes; the conversion to half puts its casts last."""
    made = {"", *(value.name for value in (*model.graph.input, *model.graph.initializer))}
    waiting, ordered = list(model.graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if made.issuperset(node.input):
                ordered.append(node)
                made.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise BuildError(f"the graph makes no {next(name for name in later[0].input if name not in made)}")
        waiting = later
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _keep_outputs(model: onnx.ModelProto, recipe: Recipe) -> None:
    known = [value.name for value in model.graph.output]
    if tuple(known[: len(recipe.outputs)]) != recipe.outputs:
        raise BuildError(
            f"the recipe of {recipe.network} asks for the outputs {', '.join(recipe.outputs)}; they must be the first "
            f"of {', '.join(known)}"
        )
    del model.graph.output[len(recipe.outputs) :]
