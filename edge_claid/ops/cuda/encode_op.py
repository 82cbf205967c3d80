"""Projection, coding and look-up tables on a CUDA device; codes and tables are the CPU's to the bit."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray, Scratch

THREADS = 256
PROJECTING = 512  # threads of a block of project_rows
ROWS = 4  # rows of it
CODEWORDS = 256
NEAREST_SHARED = 8 * (THREADS // 32)

# struct Encode of encode/encode.cu.
_POINTERS = ("values", "mean", "matrix", "projected", "codewords", "codes", "tables", "counted")
_NUMBERS = ("rows", "width", "dimensions", "subspaces", "normalise")
ARGUMENTS = np.dtype(
    [(name, np.uint64) for name in _POINTERS] + [(name, np.int32) for name in _NUMBERS] + [("_end", np.int32)]
)


class CudaCoder:
    """A code space on the device: projection, rotation and codewords. Use in a ``with`` block.

    mean: (D,) float32. matrix: (D, d) float32. rotation: (d, d) float32 or None. centroids: (M, 256, d / M) float32.
    Raises UsageError for shapes that do not fit each other.
    """

    def __init__(
        self, device: Device, mean: np.ndarray, matrix: np.ndarray, rotation: np.ndarray | None, centroids: np.ndarray
    ) -> None:
        self.width, self.dimensions = matrix.shape
        self.subspaces = len(centroids)
        fits = centroids.shape == (self.subspaces, CODEWORDS, self.dimensions // self.subspaces)
        if mean.shape != (self.width,) or not fits or self.dimensions % self.subspaces:
            raise UsageError(
                f"mean {mean.shape}, matrix {matrix.shape} and centroids {centroids.shape} do not fit each other"
            )
        if rotation is not None and rotation.shape != (self.dimensions, self.dimensions):
            raise UsageError(f"the rotation {rotation.shape} does not fit {self.dimensions} dimensions")
        self._device, self._kernels = device, device.kernels("encode")
        self._host = {
            "mean": mean,
            "matrix": matrix,
            "rotation": rotation,
            "codewords": centroids.transpose(0, 2, 1),
        }
        self._arrays: dict[str, DeviceArray] = {}
        self._between = Scratch(device)

    def __enter__(self) -> CudaCoder:
        with contextlib.ExitStack() as opening:
            opening.callback(self.__exit__)
            for name, values in self._host.items():
                if values is not None:
                    self._arrays[name] = self._device.upload(np.ascontiguousarray(values, np.float32))
            opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for array in self._arrays.values():
            array.close()
        self._arrays = {}
        self._between.close()

    def project(self, descriptors: DeviceArray, to: DeviceArray, counted: DeviceArray | None = None) -> None:
        """(R, D) float32 descriptors to (R, d) float32 of unit norm, rotated into the space of the centroids.

        counted: (1,) int32, how many of the rows there are, where only the device knows; the others stay undefined.
        """
        rotation = self._arrays.get("rotation")
        if rotation is None:
            self._product(descriptors, self._arrays["matrix"], to, self._arrays["mean"], counted)
            return
        between = self._between.array(to.shape, np.float32)
        self._product(descriptors, self._arrays["matrix"], between, self._arrays["mean"], counted)
        self._product(between, rotation, to, None, counted)

    def encode(self, projected: DeviceArray, codes: DeviceArray, counted: DeviceArray | None = None) -> None:
        """(R, d) from ``project`` to (R, M) uint8."""
        if not projected.shape[0]:
            return
        arguments = self._arguments(projected, counted)
        arguments["codes"] = codes.address
        self._kernels.launch(
            "nearest_codewords", arguments, (projected.shape[0], self.subspaces), THREADS, NEAREST_SHARED
        )

    def tables(self, projected: DeviceArray, tables: DeviceArray, counted: DeviceArray | None = None) -> None:
        """(Q, d) from ``project`` to look-up tables (Q, M, 256) float32."""
        if not projected.shape[0]:
            return
        arguments = self._arguments(projected, counted)
        arguments["tables"] = tables.address
        self._kernels.launch("lookup_tables", arguments, (projected.shape[0], self.subspaces), THREADS)

    def _product(
        self,
        values: DeviceArray,
        matrix: DeviceArray,
        to: DeviceArray,
        mean: DeviceArray | None,
        counted: DeviceArray | None,
    ) -> None:
        """values @ matrix; with a mean, which is subtracted first, of unit norm."""
        if values.shape[1] != matrix.shape[0] or to.shape != (values.shape[0], matrix.shape[1]):
            raise UsageError(f"{values.shape} @ {matrix.shape} does not give {to.shape}")
        if not values.shape[0]:
            return
        arguments = np.zeros((), ARGUMENTS)
        arguments["values"], arguments["matrix"], arguments["projected"] = values.address, matrix.address, to.address
        arguments["mean"] = 0 if mean is None else mean.address
        arguments["counted"] = 0 if counted is None else counted.address
        arguments["rows"], arguments["width"] = values.shape
        arguments["dimensions"], arguments["normalise"] = matrix.shape[1], mean is not None
        shared = 4 * ROWS * (values.shape[1] + matrix.shape[1])
        self._kernels.launch("project_rows", arguments, (-(-values.shape[0] // ROWS),), PROJECTING, shared)

    def _arguments(self, projected: DeviceArray, counted: DeviceArray | None) -> Any:
        if projected.shape[1] != self.dimensions:
            raise UsageError(f"{projected.shape} has another width than {self.dimensions}")
        arguments = np.zeros((), ARGUMENTS)
        arguments["projected"], arguments["codewords"] = projected.address, self._arrays["codewords"].address
        arguments["counted"] = 0 if counted is None else counted.address
        arguments["rows"], arguments["dimensions"] = projected.shape
        arguments["subspaces"] = self.subspaces
        return arguments
