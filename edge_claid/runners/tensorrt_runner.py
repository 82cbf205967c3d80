"""A TensorRT engine behind the Runner protocol, and for arrays that lie on the device already.

The manifest is checked before the engine is read; nothing is deserialised that was built by another library, another
version or for another GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, overload

import numpy as np

from edge_claid.errors import EngineError, MachineError, UsageError
from edge_claid.ops.cuda.device import DeviceArray
from edge_claid.ops.cuda.graph import CudaGraph
from edge_claid.runners.engine_file import Manifest, Running, check_fit, engine_path, read_manifest
from edge_claid.runners.tensorrt_api import Flavour


class EngineDevice(Protocol):
    """What a runner needs of a device: PycudaDevice has it, opened in its own ``with`` block.

    arch: compute capability, as "sm_87". stream: its ``handle`` is the CUDA stream that all work is on.
    """

    arch: str
    stream: Any

    def empty(self, shape: Any, dtype: Any) -> DeviceArray: ...
    def upload(self, values: np.ndarray, to: DeviceArray | None = None) -> DeviceArray: ...
    def copy(self, source: DeviceArray, to: DeviceArray) -> None: ...
    def copy_from(self, array: DeviceArray, to: np.ndarray) -> None: ...
    def pinned(self, shape: Any, dtype: Any) -> np.ndarray: ...
    def synchronize(self) -> None: ...
    def current(self) -> AbstractContextManager[None]:
        """A block in which the calling thread's CUDA calls go to this device."""


class TensorrtRunner:
    """Runs the engine of one folder of the cache. Use in a ``with`` block, inside the device's.

    library: the TensorRT that runs it, see ``tensorrt_api.flavour``. graph: whether to record the launches of each
    input shape once and replay them, which saves the CPU time of starting kernels; worth it where shapes are fixed.
    One thread at a time.
    """

    def __init__(self, folder: Path, device: EngineDevice, library: Flavour, *, graph: bool = False) -> None:
        self._folder, self._device, self._library, self._graph = folder, device, library, graph
        self._engine: Any = None
        self._context: Any = None
        self._buffers: dict[tuple[int, ...], _Buffers] = {}
        self._complaints: list[str] = []
        self.manifest: Manifest | None = None

    def __enter__(self) -> TensorrtRunner:
        manifest = read_manifest(self._folder)
        library = self._library
        check_fit(manifest, Running(library.name, library.version, library.cuda, self._device.arch))
        content = engine_path(self._folder, manifest).read_bytes()
        engine_path(self._folder, manifest, hashlib.sha256(content).hexdigest())
        self.manifest = manifest
        try:
            with self._device.current():
                self._load(content, manifest)
        except BaseException:
            self._unload()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unload()

    def run(self, batch: np.ndarray) -> np.ndarray:
        """See Runner.run, but of pixels of 0 to 255: the engine normalises (see ``engines.opening``).

        Raises UsageError for a batch that the engine cannot take, MachineError where the GPU fails.
        """
        return self.run_all(batch)[0]

    @overload
    def run_all(self, batch: np.ndarray) -> list[np.ndarray]: ...
    @overload
    def run_all(self, batch: DeviceArray) -> list[DeviceArray]: ...
    def run_all(self, batch: np.ndarray | DeviceArray) -> list[Any]:
        """All outputs, float32. Of a host array: host arrays, the caller's to keep; of a device array: device arrays,

        on the device's stream and not waited for, which the caller closes. Raises as ``run``.
        """
        self._check(batch)
        with self._device.current():
            return self._run_checked(batch)

    def _run_checked(self, batch: np.ndarray | DeviceArray) -> list[Any]:
        shape = tuple(batch.shape)
        if isinstance(batch, DeviceArray) and not self._graph:
            return self._enqueue_on(batch)
        buffers = self._buffers_of(shape)
        if isinstance(batch, DeviceArray):
            self._device.copy(batch, buffers.input)
        else:
            np.copyto(buffers.pinned_input, batch)
            self._device.upload(buffers.pinned_input, buffers.input)
        self._replay(buffers)
        if isinstance(batch, DeviceArray):
            return [self._copied(output) for output in buffers.outputs]
        for output, pinned in zip(buffers.outputs, buffers.pinned_outputs, strict=True):
            self._device.copy_from(output, pinned)
        return [pinned.copy() for pinned in buffers.pinned_outputs]

    def run_into(self, batch: DeviceArray, outputs: list[DeviceArray]) -> None:
        """``run_all`` of a device array into arrays that an earlier call for its shape gave; nothing is allocated."""
        self._check(batch)
        with self._device.current():
            self._shaped_outputs(tuple(batch.shape))
            self._enqueue(batch, outputs)

    @property
    def recordable(self) -> bool:
        """Whether ``run_into`` may stand in a recording that the caller makes."""
        return not self._library.captures_itself

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an input's batch, height and width lie within those that the engine was built for."""
        assert self.manifest is not None
        low, high = self.manifest.shapes["smallest"], self.manifest.shapes["largest"]
        return all(a <= value <= b for a, value, b in zip(low, self._size(shape), high, strict=True))

    # -- inside

    def _load(self, content: bytes, manifest: Manifest) -> None:
        self._complaints.clear()

        def told(severity: str, message: str) -> None:
            if severity == "error":
                self._complaints.append(" ".join(message.split()))

        self._logger = self._library.logger(told)
        # Some versions answer a foreign engine with None and nothing else.
        self._engine = self._library.runtime(self._logger, self._why).deserialize_cuda_engine(content)
        if self._engine is None:
            raise EngineError(f"{self._folder} cannot be loaded{self._why()}: run `{manifest.rebuild}`")
        self._context = self._library.context(self._engine, graph=self._graph)
        if self._context is None:
            raise MachineError(
                f"the engine of {manifest.network} gets no memory on the GPU{self._why()}: close what uses it"
            )
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        if set(names) != {"image", *manifest.outputs}:
            raise EngineError(f"{self._folder} holds an engine of {', '.join(names)}: run `{manifest.rebuild}`")

    def _unload(self) -> None:
        with contextlib.suppress(MachineError):
            self._device.synchronize()
        # In a block: pinned memory whose context is not the current one is not given back.
        with self._device.current():
            for buffers in self._buffers.values():
                buffers.close()
            self._buffers.clear()
            # In this order: a context holds its engine's memory.
            self._context = None
            self._engine = None

    def _check(self, batch: np.ndarray | DeviceArray) -> None:
        if self._context is None or self.manifest is None:
            raise RuntimeError("TensorrtRunner.run outside its with block")
        pixels = self.manifest.input == "pixels"
        form = "(B, H, W, 3) uint8" if pixels else "(B, 3, H, W) float32"
        shape = tuple(batch.shape)
        if len(shape) != 4 or shape[3 if pixels else 1] != 3 or batch.dtype != (np.uint8 if pixels else np.float32):
            raise UsageError(f"this engine's input is {form}, not {shape} {batch.dtype}")
        if not self.takes(shape):
            low, high = self.manifest.shapes["smallest"], self.manifest.shapes["largest"]
            raise UsageError(
                f"the engine of {self.manifest.network} takes [batch, height, width] of {low} to {high}, not "
                f"{self._size(shape)}"
            )

    def _size(self, shape: tuple[int, ...]) -> list[int]:
        """Batch, height, width."""
        assert self.manifest is not None
        return [shape[0], *(shape[1:3] if self.manifest.input == "pixels" else shape[2:])]

    def _shaped_outputs(self, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        assert self.manifest is not None
        if not self._context.set_input_shape("image", shape):
            raise UsageError(f"the engine of {self.manifest.network} refuses an input of {shape}{self._why()}")
        return [(name, tuple(self._context.get_tensor_shape(name))) for name in self.manifest.outputs]

    def _enqueue_on(self, batch: DeviceArray) -> list[DeviceArray]:
        shaped = self._shaped_outputs(tuple(batch.shape))
        with contextlib.ExitStack() as opening:
            outputs = []
            for _, shape in shaped:
                outputs.append(self._device.empty(shape, np.float32))
                opening.callback(outputs[-1].close)
            self._enqueue(batch, outputs)
            opening.pop_all()
        return outputs

    def _enqueue(self, batch: DeviceArray, outputs: list[DeviceArray]) -> None:
        assert self.manifest is not None
        self._context.set_tensor_address("image", batch.address)
        for name, output in zip(self.manifest.outputs, outputs, strict=True):
            self._context.set_tensor_address(name, output.address)
        if not self._context.execute_async_v3(self._device.stream.handle):
            raise MachineError(f"the engine of {self.manifest.network} failed on the GPU{self._why()}")

    def _buffers_of(self, shape: tuple[int, ...]) -> _Buffers:
        assert self.manifest is not None
        shaped = self._shaped_outputs(shape)
        if shape not in self._buffers:
            if len(self._buffers) >= 4:  # pictures of many shapes: the oldest shape's memory is given back
                self._device.synchronize()
                self._buffers.pop(next(iter(self._buffers))).close()
            dtype = np.uint8 if self.manifest.input == "pixels" else np.float32
            self._buffers[shape] = _Buffers(self._device, shape, dtype, [form for _, form in shaped])
        return self._buffers[shape]

    def _replay(self, buffers: _Buffers) -> None:
        if not self._graph or self._library.captures_itself:
            self._enqueue(buffers.input, buffers.outputs)
        elif buffers.graph is None:
            # The first run of a shape may allocate, which must not be recorded.
            self._enqueue(buffers.input, buffers.outputs)
            self._device.synchronize()
            with CudaGraph.recording(self._device.stream.handle) as buffers.graph:
                self._enqueue(buffers.input, buffers.outputs)
        else:
            buffers.graph.launch(self._device.stream.handle)

    def _copied(self, array: DeviceArray) -> DeviceArray:
        copy = self._device.empty(array.shape, array.dtype)
        self._device.copy(array, copy)
        return copy

    def _why(self) -> str:
        return f" ({self._complaints[-1][:200]})" if self._complaints else ""


class _Buffers:
    """Memory for one input shape: on the device and, pinned, on the host; and the recorded launches."""

    def __init__(
        self, device: EngineDevice, shape: tuple[int, ...], dtype: Any, outputs: list[tuple[int, ...]]
    ) -> None:
        self.graph: CudaGraph | None = None
        with contextlib.ExitStack() as opening:
            self.input = device.empty(shape, dtype)
            opening.callback(self.input.close)
            self.outputs = []
            for form in outputs:
                self.outputs.append(device.empty(form, np.float32))
                opening.callback(self.outputs[-1].close)
            self.pinned_input = device.pinned(shape, dtype)
            self.pinned_outputs = [device.pinned(form, np.float32) for form in outputs]
            self._opened = opening.pop_all()

    def close(self) -> None:
        if self.graph is not None:
            self.graph.close()
        self._opened.close()
        del self.pinned_input, self.pinned_outputs
