"""TensorRT's Python interface as its bindings describe it, over ONNX Runtime, and a device with the host's memory.

Nothing here is TensorRT: an "engine" is an ONNX file, run on the addresses that a runner sets. Names and signatures are
the real ones (see strict_tensorrt.py), what the calls do is recorded. It shows that the runner calls the interface in
the order and with the values that are documented; only a GPU shows that TensorRT agrees.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from strict_tensorrt import StrictModule, version_of

from edge_claid.ops.cuda.device import DeviceArray
from edge_claid.runners.engine_file import ENGINE, MANIFEST, Manifest
from edge_claid.runners.tensorrt_api import Flavour

STREAM = 0x5EED


class HostDevice:
    """Memory of the host by address, as PycudaDevice gives it of a GPU; counts what is not given back."""

    arch = "sm_87"

    def __init__(self) -> None:
        self.stream = SimpleNamespace(handle=STREAM)
        self.live: dict[int, np.ndarray] = {}
        self.waits = 0
        self.threads: set[int] = set()

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        memory = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xAB, np.uint8)
        address = memory.ctypes.data
        self.live[address] = memory
        owner = SimpleNamespace(free=lambda: self.live.pop(address))
        return DeviceArray(address, tuple(shape), np.dtype(dtype), owner)

    def upload(self, values: np.ndarray, to: DeviceArray | None = None) -> DeviceArray:
        array = self.empty(values.shape, values.dtype) if to is None else to
        at(array)[...] = values
        return array

    def copy(self, source: DeviceArray, to: DeviceArray) -> None:
        at(to)[...] = at(source)

    def copy_from(self, array: DeviceArray, to: np.ndarray) -> None:
        to[...] = at(array)

    def pinned(self, shape: Any, dtype: Any) -> np.ndarray:
        return np.empty(tuple(shape), dtype)

    def synchronize(self) -> None:
        self.waits += 1

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self.threads.add(threading.get_ident())
        yield


def at(array: DeviceArray) -> np.ndarray:
    """The memory of a device array, to read and write."""
    content = (ctypes.c_uint8 * array.nbytes).from_address(array.address)
    return np.frombuffer(content, array.dtype).reshape(array.shape)


class _Engine:
    def __init__(self, content: bytes) -> None:
        self.session = onnxruntime.InferenceSession(content)
        self.names = [v.name for v in (*self.session.get_inputs(), *self.session.get_outputs())]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_execution_context(self, config: Any = None) -> _Context:
        return _Context(self, config)

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace()


class _Context:
    def __init__(self, engine: _Engine, config: Any) -> None:
        self.engine, self.config = engine, config
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        self.shape = tuple(shape)
        return True

    def _outputs(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        names = self.engine.names[1:]
        return dict(zip(names, self.engine.session.run(names, {"image": batch}), strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dtype = np.uint8 if "uint8" in self.engine.session.get_inputs()[0].type else np.float32
        return self._outputs(np.zeros(self.shape, dtype))[name].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        dtype = np.dtype(np.uint8 if "uint8" in self.engine.session.get_inputs()[0].type else np.float32)
        batch = at(DeviceArray(self.addresses["image"], self.shape, dtype)).copy()
        for name, values in self._outputs(batch).items():
            at(DeviceArray(self.addresses[name], values.shape, np.dtype(np.float32)))[...] = values
        return True


class Recorded(SimpleNamespace):
    """What the module does: what was deserialised is kept in `read`. answer: what that gives instead of an engine."""

    def __init__(self, answer: Any = ...) -> None:
        super().__init__(read=[], answer=answer)

    def Runtime(self, logger: Any) -> Any:
        def deserialize_cuda_engine(content: bytes) -> Any:
            self.read.append(len(content))
            if self.answer is ...:
                return _Engine(content)
            logger.log(logger.Severity.ERROR, "the engine plan file is not compatible")
            return self.answer

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)


def recorded_flavour(module: Recorded | None = None, name: str = "tensorrt", version: str = "10.3.0") -> Flavour:
    """A library of this name over the recorded interface."""
    strict = StrictModule(version_of(name, version), module or Recorded())
    return Flavour(name, strict, version, "12.6")


def write_engine(folder: Path, onnx: Path, **changes: Any) -> Manifest:
    """An ONNX file as an engine of the cache."""
    folder.mkdir(parents=True, exist_ok=True)
    content = onnx.read_bytes()
    facts: dict[str, Any] = {
        "key": folder.name, "network": "small", "layer": 8, "precision": "fp16", "wider": False, "input": "planes",
        "outputs": ["map"], "shapes": {"smallest": [1, 16, 16], "usual": [1, 32, 32], "largest": [2, 64, 64]},
        "source_sha256": "0" * 64, "graph": "1" * 16, "onnx_sha256": "2" * 64, "flavour": "tensorrt",
        "version": "10.3.0", "cuda": "12.6", "compute_capabilities": ["sm_87"],
        "engine_sha256": hashlib.sha256(content).hexdigest(), "engine_bytes": len(content),
        "built": "2026-01-01T00:00:00+00:00", "build_seconds": 1.0, "build_memory_bytes": 1, "built_on": "a test",
    }  # fmt: skip
    manifest = Manifest(**(facts | changes))
    (folder / ENGINE).write_bytes(content)
    (folder / MANIFEST).write_text(manifest.as_json())
    return manifest
