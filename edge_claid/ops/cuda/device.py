"""What the kernels need of a device, and no more: memory, copies, launches on one stream.

Everything above this (the ops, the pipeline) is the same whether a GPU or, in tests, a model of one stands below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol

import numpy as np


class DeviceArray:
    """An array in device memory, C order. Whoever made it closes it; a view of another's memory owns nothing.

    address: of the first byte. shape, dtype: as of a NumPy array. owner: what frees the memory, or None for a view.
    """

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: Any = None) -> None:
        self.address, self.shape, self.dtype, self._owner = address, shape, dtype, owner

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def part(self, first: int, count: int) -> DeviceArray:
        """A view of `count` rows from `first`."""
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        return DeviceArray(self.address + first * row, (count, *self.shape[1:]), self.dtype)

    def reshaped(self, shape: tuple[int, ...]) -> DeviceArray:
        """A view of the beginning of the array, in another shape of as many elements or fewer."""
        return DeviceArray(self.address, shape, self.dtype)

    def close(self) -> None:
        """Give the memory back; more than once does no harm. Work already started on the stream may still use it."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.free()


class Kernels(Protocol):
    """The compiled kernels of one family."""

    def launch(self, name: str, arguments: np.ndarray, grid: Sequence[int], threads: int, shared: int = 0) -> None:
        """Start a kernel on the device's stream.

        arguments: the kernel's one struct, an array of no dimensions of its structured dtype. grid: blocks along x, y.
        threads: of a block. shared: bytes of dynamic shared memory. Raises MachineError for a launch that the device
        refuses.
        """


class Recording(Protocol):
    """Launches that were recorded; whoever recorded them closes it."""

    def launch(self) -> None:
        """Start them all again, with the arguments they had. Raises MachineError."""

    def close(self) -> None:
        """Give it back; more than once does no harm."""


class Device(Protocol):
    """A device with one stream; used in a ``with`` block, which frees all that was allocated on it.

    shared_limit: bytes of shared memory a block may ask for. processors: multiprocessors.
    """

    shared_limit: int
    processors: int

    def __enter__(self) -> Device: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def kernels(self, family: str) -> Kernels:
        """The kernels of edge_claid/ops/cuda/<family>, compiled for this device."""

    def empty(self, shape: Sequence[int], dtype: Any) -> DeviceArray:
        """An array whose content is not defined. Raises MachineError where memory does not suffice."""

    def upload(self, values: np.ndarray, to: DeviceArray | None = None) -> DeviceArray:
        """A copy on the device, in a new array or at the beginning of `to`."""

    def download(self, array: DeviceArray) -> np.ndarray:
        """A copy on the host; waits for all that was started before."""

    def fill(self, array: DeviceArray, byte: int) -> None:
        """Set every byte."""

    def copy(self, source: DeviceArray, to: DeviceArray) -> None:
        """A copy on the device, of the source's bytes."""

    def record(self, work: Callable[[], None]) -> Recording:
        """Record what `work` starts, then start it. `work` may launch, fill and copy, but not allocate or wait.

        Raises MachineError where it cannot be recorded.
        """

    def current(self) -> AbstractContextManager[None]:
        """A block in which the calling thread's CUDA calls go to this device."""

    def synchronize(self) -> None:
        """Wait for all that was started. Raises MachineError where a kernel failed."""


class Scratch:
    """Device memory that an op keeps between its launches, so that those of one size find it where it was.

    It grows where more is asked for, and is given back by who closes it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: DeviceArray | None = None

    def array(self, shape: Sequence[int], dtype: Any) -> DeviceArray:
        """Room for an array of undefined content; it is another's room at the next call."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if self._kept is None or self._kept.nbytes < size:
            self.close()
            self._kept = self._device.empty((size,), np.uint8)
        return DeviceArray(self._kept.address, tuple(shape), kind)

    def close(self) -> None:
        """Give the memory back; more than once does no harm."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None
