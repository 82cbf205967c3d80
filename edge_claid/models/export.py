"""Turns timm's networks into ONNX with the output of every layer; needs the extra ``export``, never at run time.

A ViT gives the tokens of each block (``block.0`` …) and the normalised ones (``end``); a ResNet the output of each
block (``layer4.0`` …). ``open_network`` cuts the file to the one layer in use.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

from edge_claid.errors import BuildError, MachineError, UsageError
from edge_claid.models.cache import models_folder, offline, storage_errors
from edge_claid.models.exported import NETWORK_KEY, keep_exported, layer_name
from edge_claid.models.zoo import ZooEntry

OPSET = 17

# Operators declared for torchvision; they are gone when the object is.
_declared: list[Any] = []


def export_network(
    known: ZooEntry, *, checkpoint: Path | None = None, pretrained: bool = True, cache_dir: Path | None = None
) -> Path:
    """Exports a timm network into the cache and returns the file, which ``models import`` takes on other machines.

    checkpoint: local weights (.safetensors, or .pth with tensors only) instead of the hub's. pretrained: False leaves
    the weights random (for tests). Raises UsageError (no timm network), MachineError (extra missing, hub unreachable,
    offline), BuildError.
    """
    if not known.kind.startswith("timm-"):
        raise UsageError(f"{known.name} is not exported: `edge-claid models fetch {known.name}` brings it")
    if pretrained and checkpoint is None and offline():
        raise MachineError(f"EDGE_CLAID_OFFLINE is set: give the weights of {known.name} with --checkpoint FILE")
    network = _network(known, checkpoint, pretrained)
    folder = models_folder(cache_dir)
    with storage_errors(folder), tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as work:
        made = Path(work) / "exported.onnx"
        _export(known, network, made)
        return keep_exported(known, made, cache_dir)


def layer_names(known: ZooEntry) -> list[str]:
    """The outputs of the exported file, one for each layer of zoo.toml, in its order."""
    return [layer_name(known, layer) for layer in known.layers]


def _network(known: ZooEntry, checkpoint: Path | None, pretrained: bool) -> Any:
    timm = _import_timm()
    name = known.build["timm"]
    try:
        network = timm.create_model(name, pretrained=pretrained and checkpoint is None, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise MachineError(
            f"the weights of {known.name} ({name}) could not be fetched ({str(error).splitlines()[0][:160]}): "
            f"fetch them elsewhere and give them with --checkpoint FILE"
        ) from error
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise UsageError(f"{checkpoint}: no such file of weights")
        try:
            # Not strict: the classifier's weights may be there. Nothing of the network may be missing, though.
            loaded = timm.models.load_checkpoint(network, str(checkpoint), strict=False, weights_only=True)
        except Exception as error:
            # Not torch's own words: for a file that is none of weights they advise to unpickle it.
            raise BuildError(
                f"{checkpoint} does not hold the weights of {name}: give its state dict as torch saves it"
            ) from error
        if loaded.missing_keys:
            raise BuildError(
                f"{checkpoint} lacks {len(loaded.missing_keys)} weights of {name}: {loaded.missing_keys[0]}"
            )
    return network.eval()


def _import_timm() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MachineError("exporting needs torch and timm: pip install 'edge-claid[export]'") from error
    for _ in range(2):
        try:
            import timm
        except ImportError as error:
            raise MachineError(f"timm cannot be imported ({error}): pip install 'edge-claid[export]'") from error
        except RuntimeError as error:
            # A torchvision built for another torch lacks its compiled operators. timm imports it, but a feature
            # extractor needs none of them: declaring them is enough for a second try.
            if "torchvision::" not in str(error):
                raise MachineError(f"timm cannot be imported: {error}") from error
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
        else:
            return timm
    raise MachineError("timm cannot be imported: its torchvision does not fit torch; install the matching one")


def _export(known: ZooEntry, network: Any, path: Path) -> None:
    import torch

    from edge_claid.models.layered import layered

    module = layered(known, network).eval()
    stride = known.stride
    # Not square, and not the network's own size: nothing of the example's size may end up as a constant unnoticed.
    example = torch.zeros(2, 3, 5 * stride, 7 * stride)
    names = layer_names(known)
    axes = {0: "batch", 1: "tokens"} if known.output == "tokens" else {0: "batch", 2: "rows", 3: "columns"}
    dynamic = {"image": {0: "batch", 2: "height", 3: "width"}, **dict.fromkeys(names, axes)}
    try:
        with torch.no_grad():
            torch.onnx.export(
                module, (example,), str(path), input_names=["image"], output_names=names, dynamic_axes=dynamic,
                opset_version=OPSET, dynamo=False,
            )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise BuildError(f"torch could not export {known.name}: {str(error).splitlines()[0]}") from error
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {NETWORK_KEY: known.name})
    onnx.checker.check_model(model)
    onnx.save(model, path)
