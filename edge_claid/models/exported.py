"""Exported and fine-tuned networks on this machine: their files, their layers, the check of one from outside."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edge_claid.errors import MachineError, UsageError
from edge_claid.models.cache import atomic_file, models_folder, sha256_of
from edge_claid.models.zoo import ZooEntry, entry

NETWORK_KEY = "edge_claid.network"
TUNED_OUTPUTS = ("map", "inner16", "inner8")  # of a fine-tuned EfficientNet-Lite, see efficientnet.py


def exported_file(known: ZooEntry, cache_dir: Path | None = None) -> Path:
    """The newest exported file of this network on this machine. Raises MachineError where there is none."""
    found = list(models_folder(cache_dir).glob(f"{known.name}-exported-{'[0-9a-f]' * 64}.onnx"))
    if not found and known.tuned_from:
        raise MachineError(
            f"{known.name} is not on this machine: it was fine-tuned on another, where `edge-claid models export "
            f"{known.name}` tells its file; `edge-claid models import FILE` takes that file here"
        )
    if not found:
        raise MachineError(
            f"{known.name} is not on this machine: run `edge-claid models export {known.name}` where a model hub can "
            f"be reached (pip install 'edge-claid[export]'), and `edge-claid models import FILE` here"
        )
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def keep_exported(known: ZooEntry, source: Path, cache_dir: Path | None = None) -> Path:
    """Copies an exported file into the cache, under a name that holds its SHA-256."""
    path = models_folder(cache_dir) / f"{known.name}-exported-{sha256_of(source)}.onnx"
    with atomic_file(path) as part:
        shutil.copyfile(source, part)
    return path


def checked_export(source: Path) -> ZooEntry:
    """The network that a file from `models export` holds.

    Raises UsageError for a file that is no ONNX, refers to other files, uses operators beyond ONNX's own, or lacks a
    layer of its network.
    """
    try:
        model = onnx.load(source, load_external_data=False)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise UsageError(f"{source} is no valid ONNX file: {str(error).strip().splitlines()[0][:160]}") from error
    properties = {prop.key: prop.value for prop in model.metadata_props}
    if NETWORK_KEY not in properties:
        raise UsageError(f"{source} was not made by `edge-claid models export`, nor is it a file that zoo.toml pins")
    known = entry(properties[NETWORK_KEY])
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise UsageError(f"{source} keeps weights in other files: export it again as one file")
    if model.functions or any(opset.domain not in ("", "ai.onnx") for opset in model.opset_import):
        raise UsageError(f"{source} uses operators beyond ONNX's own, which are not accepted from outside")
    expected = TUNED_OUTPUTS if known.tuned_from else [layer_name(known, layer) for layer in known.layers]
    missing = set(expected) - {value.name for value in model.graph.output}
    if missing:
        raise UsageError(f"{source} lacks the layers {', '.join(sorted(missing))} of {known.name}")
    return known


def layer_name(known: ZooEntry, layer: int) -> str:
    """The tensor of one layer: ``end`` or ``block.8`` of a ViT; ``layer4.0`` of a ResNet, whose layer is 400."""
    if known.kind == "timm-resnet":
        return f"layer{layer // 100}.{layer % 100}"
    return "end" if layer == -1 else f"block.{layer}"
