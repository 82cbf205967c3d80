"""A device that is the CPU: the shipped kernels compiled by a C++ compiler with cuda_model.h. It is no GPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid.errors import MachineError
from edge_claid.ops.cuda.device import DeviceArray

HERE = Path(__file__).parent
SOURCES = Path(__file__).parents[3] / "edge_claid" / "ops" / "cuda"
MOST_BLOCKS = ((1 << 31) - 1, 65535, 65535)  # along x, y, z, of every GPU
GUARD = 256  # bytes behind an array
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2}
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-x", "c++", "-Wall", "-Wno-unknown-pragmas")


@functools.cache
def compiler() -> str | None:
    """A C++ compiler, or None."""
    return shutil.which("g++") or shutil.which("clang++")


@functools.cache
def library(family: str, folder: Path, arch: int | None) -> ctypes.CDLL:
    """The kernels of a family as a shared library, kept in the folder. arch: __CUDA_ARCH__, None for not defined."""
    extra, races = os.environ.get("CUDA_MODEL_FLAGS", ""), races_are_told()
    target = folder / f"{family}-{arch}-{zlib.crc32(extra.encode())}{'-races' * races}.so"
    if not target.is_file():
        built(
            SOURCES / family / f"{family}.cu",
            target,
            [*extra.split(), *([f"-DCUDA_MODEL_ARCH={arch}"] if arch else [])],
        )
    return ctypes.CDLL(str(target))


def built(source: Path, target: Path, options: Sequence[str]) -> None:
    """Compile kernels; with races, such that every access calls what races.cc defines.

    ThreadSanitizer instruments them for that, its library is not linked.
    """
    found, partial = compiler(), target.with_suffix(f".{os.getpid()}")
    assert found is not None
    # A preloaded sanitizer is for this process, not for the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}

    def run(*arguments: str | Path) -> None:
        subprocess.run([found, *map(str, arguments)], check=True, env=environment)

    command = [*FLAGS, *options, f"-I{HERE}"]
    if races_are_told():
        objects = [target.with_suffix(".kernels.o"), target.with_suffix(".races.o")]
        run(*command, "-g", "-fsanitize=thread", "-DCUDA_MODEL_RACES", "-c", source, "-o", objects[0])
        run(*command, "-c", HERE / "races.cc", "-o", objects[1])
        run("-shared", *objects, "-o", partial)
    else:
        run(*command, "-shared", source, "-o", partial)
    os.replace(partial, target)


def races_are_told() -> bool:
    """Whether kernels are built such that two accesses that no barrier parts end the process."""
    return os.environ.get("CUDA_MODEL_RACES") == "1"


class _Memory:
    def __init__(self, device: ModelDevice, size: int) -> None:
        # Garbage, at an address as aligned as an allocation on a GPU is, and some more behind it that must stay.
        self.block = np.full(size + 256 + GUARD, 0xA5, np.uint8)
        self.address = (self.block.ctypes.data + 255) // 256 * 256
        self.size, self._device = size, device
        self._end = self.address - self.block.ctypes.data + size
        self._guard("poison")

    def free(self) -> None:
        self._guard("unpoison")
        self._device.live.remove(self)
        assert (self.block[self._end : self._end + GUARD] == 0xA5).all(), "a write behind an array"

    def _guard(self, what: str) -> None:
        """Under the address sanitizer a kernel may not read there either."""
        change = getattr(ctypes.CDLL(None), f"__asan_{what}_memory_region", None)
        if change is not None:
            change(ctypes.c_void_p(self.address + self.size), ctypes.c_size_t(GUARD))


class ModelKernels:
    """See edge_claid.ops.cuda.device.Kernels."""

    def __init__(self, device: ModelDevice, loaded: ctypes.CDLL) -> None:
        self._device, self._loaded = device, loaded

    def launch(self, name: str, arguments: np.ndarray, grid: Sequence[int], threads: int, shared: int = 0) -> None:
        """Refuses what a driver refuses, and a struct of another size than the kernel's."""
        size, most_threads = (ctypes.c_uint * 2).in_dll(self._loaded, f"{name}_needs")
        sides = (*grid, *[1] * (3 - len(grid)))
        fits = all(0 < side <= most for side, most in zip(sides, MOST_BLOCKS, strict=True))
        if not fits or not 0 < threads <= most_threads or shared > self._device.shared_limit:
            raise MachineError(
                f"kernel {name} could not be started: {sides} blocks of {threads} threads, {shared} bytes"
            )
        assert arguments.nbytes == size, f"{name} takes {size} bytes, not {arguments.nbytes}"
        blocks = (ctypes.c_uint * 3)(*sides)
        content = arguments.tobytes()
        self._device.start(lambda: self._run(name, content, blocks, threads, shared))

    def _run(self, name: str, content: bytes, blocks: Any, threads: int, shared: int) -> None:
        seed, order = len(self._device.launched), ORDERS[self._device.order]
        if races_are_told():
            bounds = [side for memory in self._device.live for side in (memory.address, memory.address + memory.size)]
            self._loaded.cuda_model_watch((ctypes.c_size_t * len(bounds))(*bounds), ctypes.c_size_t(len(bounds) // 2))
        getattr(self._loaded, name)(content, blocks, threads, shared, order, seed)
        self._device.launched.append(name)


class ModelRecording:
    """See edge_claid.ops.cuda.device.Recording."""

    def __init__(self, device: ModelDevice, steps: list[Callable[[], object]]) -> None:
        self._device, self._steps = device, steps
        device.recordings += 1

    def launch(self) -> None:
        assert self._steps, "a closed recording was started"
        self._device.replays += 1
        for step in self._steps:
            step()

    def close(self) -> None:
        if self._steps:
            self._device.recordings -= 1
        self._steps = []


class ModelDevice:
    """See edge_claid.ops.cuda.device.Device. order: in which threads are resumed. memory: bytes there are."""

    def __init__(self, folder: Path, order: str = "ascending", arch: int | None = 800, memory: int = 1 << 32) -> None:
        self._folder, self._arch, self.order = folder, arch, order
        self.shared_limit, self.processors, self.memory = 227 * 1024, 2, memory
        self.live: list[_Memory] = []
        self.launched: list[str] = []
        self.allocations = self.recordings = self.replays = 0
        self._recorded: list[Callable[[], object]] | None = None
        self.is_model = True

    def __enter__(self) -> ModelDevice:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.live, f"{len(self.live)} arrays were not closed"
        assert not self.recordings, f"{self.recordings} recordings were not closed"

    def kernels(self, family: str) -> ModelKernels:
        return ModelKernels(self, library(family, self._folder, self._arch))

    def empty(self, shape: Sequence[int], dtype: Any) -> DeviceArray:
        assert self._recorded is None, "what allocates cannot be recorded"
        self.allocations += 1
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if sum(memory.block.nbytes for memory in self.live) + size > self.memory:
            raise MachineError(f"the GPU has no {size} bytes left")
        memory = _Memory(self, size)
        self.live.append(memory)
        return DeviceArray(memory.address, tuple(shape), kind, memory)

    def upload(self, values: np.ndarray, to: DeviceArray | None = None) -> DeviceArray:
        assert self._recorded is None, "a copy from the host is not to be recorded: it may change"
        values = np.ascontiguousarray(values)
        array = self.empty(values.shape, values.dtype) if to is None else to
        assert values.nbytes <= array.nbytes
        ctypes.memmove(array.address, values.ctypes.data, values.nbytes)
        return array

    def download(self, array: DeviceArray) -> np.ndarray:
        assert self._recorded is None, "what waits cannot be recorded"
        values = np.empty(array.shape, array.dtype)
        ctypes.memmove(values.ctypes.data, array.address, array.nbytes)
        return values

    def fill(self, array: DeviceArray, byte: int) -> None:
        self.start(lambda: ctypes.memset(array.address, byte, array.nbytes))

    def copy(self, source: DeviceArray, to: DeviceArray) -> None:
        assert source.nbytes <= to.nbytes
        self.start(lambda: ctypes.memmove(to.address, source.address, source.nbytes))

    def record(self, work: Callable[[], None]) -> ModelRecording:
        """As on a GPU nothing runs while it is recorded; then it is started once."""
        assert self._recorded is None
        self._recorded = []
        try:
            work()
            recording = ModelRecording(self, self._recorded)
        finally:
            self._recorded = None
        recording.launch()
        return recording

    def start(self, step: Callable[[], object]) -> None:
        """Run a step now, or when the recording that is made is started."""
        if self._recorded is None:
            step()
        else:
            self._recorded.append(step)

    def free_bytes(self) -> int:
        return self.memory - sum(memory.block.nbytes for memory in self.live)

    def current(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        """Nothing runs behind the caller's back."""
        assert self._recorded is None, "what waits cannot be recorded"
