"""A network of the product run by torch alone, at one size: for a GPU machine with torch and neither engines nor ONNX.

`static_network` writes it on a machine that has the ONNX file and ONNX Runtime; `StaticNetwork` reads it with NumPy and
torch, and `TorchNetwork` runs it between the arrays of a device as ``edge_claid.gpu_frame.DeviceNetwork`` asks.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from edge_claid.models import NetworkFile
from edge_claid.ops.cuda.device import DeviceArray

# Matrices of a ViT of this many weights travel in 8 bits, one scale a column: the folder is bounded. fp16 when read.
MATRIX = 1 << 16
PLAIN = {"Add": torch.add, "Mul": torch.mul, "MatMul": torch.matmul, "Gelu": functional.gelu, "Identity": lambda x: x}


def static_network(file: NetworkFile, shape: tuple[int, int, int, int], target: Path) -> None:
    """Write the network for inputs of this shape. Shapes and position embeddings are folded by ONNX Runtime.

    target: .npz of weights and, as JSON, the nodes in order. Layer norms and GELUs are one node each.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    # More than "basic" fuses what a convolutional network has into what only ONNX Runtime knows.
    tokens = file.output == "tokens"
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if tokens else level.ORT_ENABLE_BASIC
    for name, size in (("batch", shape[0]), ("height", shape[2]), ("width", shape[3])):
        options.add_free_dimension_override_by_name(name, size)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    arrays: dict[str, np.ndarray] = {}
    names = {}
    for number, weight in enumerate(graph.initializer):
        names[weight.name] = f"w{number}"
        arrays |= _packed(f"w{number}", onnx.numpy_helper.to_array(weight))
    nodes = [
        {
            "op": node.op_type,
            "in": [names.get(name, name) for name in node.input],
            "out": list(node.output),
            "set": {one.name: _plain(onnx.helper.get_attribute_value(one)) for one in node.attribute},
        }
        for node in graph.node
    ]
    known = {key: _plain(value) for key, value in asdict(file).items() if key != "path"}
    outputs = [names.get(one.name, one.name) for one in graph.output]
    told = {"nodes": nodes, "input": graph.input[0].name, "outputs": outputs, "shape": shape, "file": known}
    np.savez_compressed(target, told=json.dumps(told), **arrays)


class StaticNetwork:
    """What `static_network` wrote. where: torch's name of a device. kind: what is computed in.

    shape: of the input. file: the product's record of the network, its path that of the .npz.
    Called with (1, 3, H, W) of `kind`, it gives all outputs.
    """

    def __init__(self, path: Path, where: str, kind: torch.dtype = torch.float16) -> None:
        with np.load(path) as arrays:
            told = json.loads(str(arrays["told"]))
            packed = {name: arrays[name] for name in arrays.files if name != "told"}
        lists = {"mean", "std", "mean_token"}
        known = {
            key: np.array(value, np.float32) if key in lists and value is not None else value
            for key, value in told["file"].items()
        }
        self.file = NetworkFile(**known | {"path": path, "inner_dims": tuple(known["inner_dims"])})
        self.where, self.kind, self.shape = where, kind, tuple(told["shape"])
        self._input, self._outputs, self._nodes = told["input"], told["outputs"], told["nodes"]
        # Shapes, axes and limits are read by the host, the rest lies where the network runs.
        self._host = {name: values for name, values in packed.items() if values.dtype == np.int64 or values.ndim == 0}
        self._weights = {
            name: torch.from_numpy(_unpacked(name, packed)).to(where, kind)
            for name in packed
            if name not in self._host and not name.endswith("_scale")
        }

    @torch.inference_mode()
    def __call__(self, image: torch.Tensor) -> list[torch.Tensor]:
        values = self._weights | {self._input: image}
        for node in self._nodes:
            inputs = [values[name] if name in values else self._host[name] for name in node["in"]]
            (output,) = node["out"]
            values[output] = _run(node["op"], inputs, node["set"])
        return [values[name] for name in self._outputs]


class TorchNetwork:
    """See edge_claid.gpu_frame.DeviceNetwork. Work is put on the device's stream, so nothing else need wait for it.

    On a GPU the second frame's launches are recorded as a CUDA graph by torch, whose memory must be its own; the
    pipeline's recording of all stages therefore leaves it out. outputs: of the last frame.
    """

    def __init__(self, device: Any, network: StaticNetwork) -> None:
        self._device, self._network = device, network
        self.outputs: list[DeviceArray] = []
        self._graph: Any = None
        self._recorded: list[int] = []

    def run_all(self, planes: DeviceArray) -> list[DeviceArray]:
        """Outputs are float32. Raises ValueError for planes of another size than the network was written for."""
        if planes.shape != self._network.shape:
            raise ValueError(f"{self._network.file.path} takes {self._network.shape}, not {planes.shape}")
        with self._on_stream(), contextlib.ExitStack() as opening:
            found = self._network(self._tensor(planes).to(self._network.kind))
            outputs = []
            for values in found:
                outputs.append(self._device.empty(tuple(values.shape), np.float32))
                opening.callback(outputs[-1].close)
                self._tensor(outputs[-1]).copy_(values)
            opening.pop_all()
        self.outputs = outputs
        return outputs

    def run_into(self, planes: DeviceArray, outputs: list[DeviceArray]) -> None:
        self.outputs = outputs
        with self._on_stream():
            # Made before anything is recorded: it asks the driver whose memory this is.
            image, *results = (self._tensor(one) for one in (planes, *outputs))
            if self._network.where == "cpu":
                self._compute(image, results)
                return
            addresses = [planes.address, *(one.address for one in outputs)]
            if addresses != self._recorded:
                self._recorded, self._graph = [], torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self._compute(image, results)
                self._recorded = addresses
            self._graph.replay()

    def recordable(self, shape: tuple[int, ...]) -> bool:
        return False

    def _compute(self, image: torch.Tensor, results: list[torch.Tensor]) -> None:
        for values, result in zip(self._network(image.to(self._network.kind)), results, strict=True):
            result.copy_(values)

    def _on_stream(self) -> contextlib.AbstractContextManager[Any]:
        if self._network.where == "cpu":
            return contextlib.nullcontext()
        return torch.cuda.stream(torch.cuda.ExternalStream(self._device.stream.handle))

    def _tensor(self, array: DeviceArray) -> torch.Tensor:
        """The array's own memory as a tensor."""
        if self._network.where == "cpu":
            content = (ctypes.c_uint8 * array.nbytes).from_address(array.address)
            return torch.from_numpy(np.frombuffer(content, array.dtype).reshape(array.shape))
        return torch.as_tensor(_Shared(array), device=self._network.where)


class _Shared:
    def __init__(self, array: DeviceArray) -> None:
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.address, False),
            "strides": None,
            "version": 3,
        }


def _run(op: str, inputs: list[Any], chosen: dict[str, Any]) -> torch.Tensor:
    x, rest = inputs[0], inputs[1:]
    if op in PLAIN:
        return PLAIN[op](*inputs)
    return SET[op](x, rest, chosen)


def _convolution(x: torch.Tensor, rest: list[Any], chosen: dict[str, Any]) -> torch.Tensor:
    weight, strides = rest[0], chosen.get("strides", [1, 1])
    if chosen.get("auto_pad") == "SAME_UPPER":
        missing = [max((-(-n // s) - 1) * s + k - n, 0)
                   for n, s, k in zip(x.shape[2:], strides, weight.shape[2:], strict=True)]  # fmt: skip
        top, left = (one // 2 for one in missing)
        pads = [top, left, missing[0] - top, missing[1] - left]
    else:
        pads = chosen.get("pads", [0, 0, 0, 0])
    x = functional.pad(x, (pads[1], pads[3], pads[0], pads[2])) if any(pads) else x
    bias = rest[1] if len(rest) > 1 else None
    return functional.conv2d(x, weight, bias, strides, 0, chosen.get("dilations", [1, 1]), chosen.get("group", 1))


def _reshape(x: torch.Tensor, rest: list[Any], chosen: dict[str, Any]) -> torch.Tensor:
    return x.reshape([x.shape[i] if size == 0 else int(size) for i, size in enumerate(rest[0])])


def _product(x: torch.Tensor, rest: list[Any], chosen: dict[str, Any]) -> torch.Tensor:
    left = x.transpose(-1, -2) if chosen.get("transA") else x
    right = rest[0].transpose(-1, -2) if chosen.get("transB") else rest[0]
    return (left @ right) * chosen.get("alpha", 1.0)


def _gemm(x: torch.Tensor, rest: list[Any], chosen: dict[str, Any]) -> torch.Tensor:
    left = x.T if chosen.get("transA") else x
    right = rest[0].T if chosen.get("transB") else rest[0]
    scales = {"alpha": chosen.get("alpha", 1.0), "beta": chosen.get("beta", 1.0)}
    return torch.addmm(rest[1], left, right, **scales)


def _slice(x: torch.Tensor, rest: list[Any], chosen: dict[str, Any]) -> torch.Tensor:
    part = [slice(None)] * x.ndim
    for start, end, axis in zip(*(one.reshape(-1).tolist() for one in rest[:3]), strict=True):
        part[axis] = slice(start, end)
    return x[tuple(part)]


SET: dict[str, Callable[[torch.Tensor, list[Any], dict[str, Any]], torch.Tensor]] = {
    "Conv": _convolution,
    "Clip": lambda x, rest, chosen: x.clamp(float(rest[0]), float(rest[1])),
    "Concat": lambda x, rest, chosen: torch.cat([x, *rest], chosen["axis"]),
    "FusedMatMul": _product,
    "Gemm": _gemm,
    "LayerNormalization": lambda x, rest, chosen: functional.layer_norm(x, x.shape[-1:], *rest, chosen["epsilon"]),
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": lambda x, rest, chosen: x.softmax(chosen["axis"]),
    "Transpose": lambda x, rest, chosen: x.permute(chosen["perm"]),
}


def _packed(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if values.dtype != np.float32 or values.ndim == 0:
        return {name: values}
    if values.ndim != 2 or values.size < MATRIX:
        return {name: values.astype(np.float16)}
    scale = (np.abs(values).max(axis=0, keepdims=True) / 127).astype(np.float32)
    return {name: np.rint(values / np.maximum(scale, 1e-12)).astype(np.int8), f"{name}_scale": scale}


def _unpacked(name: str, packed: dict[str, np.ndarray]) -> np.ndarray:
    scale = packed.get(f"{name}_scale")
    return packed[name] if scale is None else packed[name].astype(np.float32) * scale


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, np.ndarray) else value
