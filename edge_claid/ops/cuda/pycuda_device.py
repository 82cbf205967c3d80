"""A CUDA device by PyCUDA, on the primary context, so that engines of TensorRT and other libraries share it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid.errors import MachineError
from edge_claid.ops.cuda.compile import machine_code
from edge_claid.ops.cuda.device import DeviceArray
from edge_claid.ops.cuda.graph import CudaGraph, pop_context

try:
    import pycuda.driver as cuda
    from pycuda.tools import DeviceMemoryPool
except ImportError as error:  # no libcuda.so.1, or not installed
    cuda = None
    _WHY = str(error)


class PycudaDevice:
    """See edge_claid.ops.cuda.device.Device.

    number: of the GPU. cache_dir: where compiled kernels are kept. stream: a pycuda Stream to work on, else an own one.
    Raises MachineError where there is no GPU or PyCUDA cannot be loaded.
    """

    def __init__(self, number: int = 0, cache_dir: Path | None = None, stream: Any = None) -> None:
        if cuda is None:
            raise MachineError(f"PyCUDA cannot be loaded ({_WHY}): it needs the NVIDIA driver and `pip install pycuda`")
        with _told("no GPU can be used"):
            cuda.init()
            device = self._gpu = cuda.Device(number)
            self.arch = "sm_{}{}".format(*device.compute_capability())
            self.shared_limit = int(device.get_attribute(cuda.device_attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
            self.processors = int(device.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT))
            self.name = str(device.name())
        self._cache_dir, self._given_stream = cache_dir, stream
        self._live: set[_Memory] = set()
        self._families: dict[str, _Kernels] = {}
        self._context: Any = None
        self.stream: Any = None
        self._pool: Any = None

    def __enter__(self) -> PycudaDevice:
        with _told("the GPU cannot be opened"):
            self._context = self._gpu.retain_primary_context()
            # Ours is on top only while we call: PyCUDA's stack takes what another library put on top meanwhile off.
            with self._current():
                self.stream = self._given_stream or cuda.Stream()
                # Memory given back is handed out again without asking the driver. All work is on one stream, so
                # whoever gets it comes after whoever had it.
                self._pool = DeviceMemoryPool()
        return self

    def __exit__(self, *_: object) -> None:
        context, self._context = self._context, None
        context.push()
        try:
            with contextlib.suppress(cuda.Error):
                self.stream.synchronize()
            for memory in list(self._live):
                memory.release()
            # PyCUDA leaves what dies after its context to a driver that keeps it as long as anybody has the context.
            for kernels in self._families.values():
                kernels.close()
            self._families.clear()
            with contextlib.suppress(cuda.Error):
                self._pool.stop_holding()
            self.stream = self._pool = None
        finally:
            # Released while it is on top, from any thread: PyCUDA takes it off its own stack, not off the driver's.
            context.detach()
            if cuda.Context.get_current() is None:
                pop_context()

    def kernels(self, family: str) -> _Kernels:
        if family not in self._families:
            code = machine_code(family, self.arch, self._cache_dir)
            with self._current(), _told(f"the {family} kernels cannot be loaded"):
                module = cuda.module_from_buffer(code)
            self._families[family] = _Kernels(self, module)
        return self._families[family]

    def empty(self, shape: Sequence[int], dtype: Any) -> DeviceArray:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        with self._current():
            memory = _Memory(self, size)
        self._live.add(memory)
        return DeviceArray(memory.address, tuple(int(side) for side in shape), kind, memory)

    def upload(self, values: np.ndarray, to: DeviceArray | None = None) -> DeviceArray:
        values = np.ascontiguousarray(values)
        array = self.empty(values.shape, values.dtype) if to is None else to
        assert values.nbytes <= array.nbytes, f"{values.nbytes} bytes do not fit into {array.nbytes}"
        if values.nbytes:
            with self._current(), _told("copying to the GPU failed"):
                # From pageable memory the call returns once the source may be changed.
                cuda.memcpy_htod_async(int(array.address), values, self.stream)
                self.stream.synchronize()
        return array

    def download(self, array: DeviceArray) -> np.ndarray:
        values = np.empty(array.shape, array.dtype)
        with self._current(), _told("the GPU failed"):
            if values.nbytes:
                cuda.memcpy_dtoh_async(values, int(array.address), self.stream)
            self.stream.synchronize()
        return values

    def pinned(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Host memory that copies to and from the device fastest. Let go of it in a ``current`` block, inside ours."""
        with self._current(), _told("no host memory for the GPU is left"):
            values: np.ndarray = cuda.pagelocked_empty(tuple(int(side) for side in shape), np.dtype(dtype))
        return values

    def copy_from(self, array: DeviceArray, to: np.ndarray) -> None:
        """Download into memory that is there, as ``pinned`` gives it; waits for all that was started before."""
        with self._current(), _told("the GPU failed"):
            cuda.memcpy_dtoh_async(to, int(array.address), self.stream)
            self.stream.synchronize()

    def fill(self, array: DeviceArray, byte: int) -> None:
        if array.nbytes:
            with self._current(), _told("the GPU failed"):
                cuda.memset_d8_async(int(array.address), int(byte), array.nbytes, self.stream)

    def copy(self, source: DeviceArray, to: DeviceArray) -> None:
        """A copy on the device, of the source's bytes."""
        assert source.nbytes <= to.nbytes, f"{source.nbytes} bytes do not fit into {to.nbytes}"
        if source.nbytes:
            with self._current(), _told("copying on the GPU failed"):
                cuda.memcpy_dtod_async(int(to.address), int(source.address), source.nbytes, self.stream)

    def record(self, work: Callable[[], None]) -> _Recording:
        with self._current(), CudaGraph.recording(self.stream.handle) as graph:
            work()
        return _Recording(self, graph)

    def synchronize(self) -> None:
        with self._current(), _told("the GPU failed"):
            self.stream.synchronize()

    def free_bytes(self) -> int:
        """Memory of the GPU that nothing holds."""
        with self._current(), _told("the GPU failed"):
            return int(cuda.mem_get_info()[0])

    def current(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the calling thread's CUDA calls, another library's too, go to this device."""
        return self._current()

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Our context on top, whatever another library left there; afterwards that is there again.

        PyCUDA's numbers, addresses among them, must be Python's own: Boost.Python refuses NumPy's with a TypeError.
        """
        if self._context is None:
            raise RuntimeError("a PycudaDevice is used in its with block")
        with _told("the GPU's context cannot be used"):
            self._context.push()
        try:
            yield
        finally:
            cuda.Context.pop()


class _Memory:
    def __init__(self, device: PycudaDevice, size: int) -> None:
        self._device = device
        try:
            with _told("the GPU gives no memory"):
                self._allocation = device._pool.allocate(max(size, 1))
        except MachineError as error:
            if not isinstance(error.__cause__, cuda.MemoryError):
                raise
            raise MachineError(
                f"the GPU has no {size:,} bytes left ({cuda.mem_get_info()[0]:,} free): take smaller batches, or close "
                "what else uses it"
            ) from error
        self.address = int(self._allocation)

    def free(self) -> None:
        if self._allocation is not None:
            with self._device._current():
                self.release()

    def release(self) -> None:
        """In the device's context; more than once does no harm, for PyCUDA it is an error."""
        allocation, self._allocation = self._allocation, None
        self._device._live.discard(self)
        if allocation is not None:
            allocation.free()


class _Recording:
    def __init__(self, device: PycudaDevice, graph: CudaGraph) -> None:
        self._device, self._graph = device, graph

    def launch(self) -> None:
        with self._device._current():
            self._graph.launch(self._device.stream.handle)

    def close(self) -> None:
        with self._device._current():
            self._graph.close()


class _Kernels:
    def __init__(self, device: PycudaDevice, module: Any) -> None:
        self._device, self._module = device, module
        self._functions: dict[str, Any] = {}

    def close(self) -> None:
        """Unload them; a function holds its module."""
        self._functions.clear()
        self._module = None

    def launch(self, name: str, arguments: np.ndarray, grid: Sequence[int], threads: int, shared: int = 0) -> None:
        with self._device._current(), _told(f"kernel {name} could not be started"):
            function = self._functions.get(name)
            if function is None:
                function = self._functions[name] = self._module.get_function(name)
            if shared > 48 * 1024:
                function.set_attribute(cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, int(shared))
            blocks = (int(grid[0]), int(grid[1]) if len(grid) > 1 else 1)
            block, stream = (int(threads), 1, 1), self._device.stream
            function(arguments[()], grid=blocks, block=block, shared=int(shared), stream=stream)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """The driver's errors as MachineError."""
    try:
        yield
    except cuda.Error as error:
        raise MachineError(f"{what}: {error}") from error
