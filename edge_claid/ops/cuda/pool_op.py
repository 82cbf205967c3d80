"""RoI pooling of many maps on a CUDA device; the contract of edge_claid.ops.reference.pool, to float32 rounding."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray

THREADS = 256
TILE = 32

# struct Pool of pool/pool.cu.
_POINTERS = ("values", "raised", "boxes", "images", "pooled", "pixels", "sizes")
_NUMBERS = ("maps", "channels", "rows", "columns", "regions", "stride", "offset")
ARGUMENTS = np.dtype(
    [(name, np.uint64) for name in _POINTERS]
    + [("smallest_side", np.float64)]
    + [(name, np.int32) for name in _NUMBERS]
    + [("power", np.float32), ("norm", np.float32), ("_end", np.int32)]
)


@dataclass(frozen=True)
class RegionsOfMaps:
    """Which regions are pooled, all on the device.

    pixels: (R, 4) float32 boxes in pixels of their pictures. images: (R,) int32, each region's picture. sizes: (B, 2)
    int32, width and height of the pictures.
    """

    pixels: DeviceArray
    images: DeviceArray
    sizes: DeviceArray


class MapPooling:
    """Pools one network map after another into columns of the regions' descriptors.

    power: of the generalised mean; infinity takes the maximum. smallest_side: cells that boxes are widened to.
    """

    def __init__(self, device: Device, power: float, smallest_side: float) -> None:
        self._device, self._kernels = device, device.kernels("pool")
        self._power, self._smallest_side = power, smallest_side

    def pool(
        self, values: DeviceArray, regions: RegionsOfMaps, pooled: DeviceArray, *, offset: int = 0, norm: float = 1.0
    ) -> None:
        """Pool maps over boxes into columns [offset, offset + C) of `pooled`, that part of each row of norm `norm`.

        values: (B, C, h, w) float32, not negative. pooled: (R, stride) float32. Raises UsageError for shapes that do
        not fit.
        """
        maps, channels, rows, columns = values.shape
        count, stride = pooled.shape
        if regions.pixels.shape != (count, 4) or regions.images.shape != (count,) or offset + channels > stride:
            raise UsageError(f"boxes {regions.pixels.shape} and {pooled.shape} from {offset} do not fit {values.shape}")
        if not count:
            return
        with (
            contextlib.closing(self._device.empty(values.shape, np.float32)) as raised,
            contextlib.closing(self._device.empty((count, 4), np.float32)) as boxes,
        ):
            arguments = np.zeros((), ARGUMENTS)
            given = (values, raised, boxes, regions.images, pooled, regions.pixels, regions.sizes)
            for name, array in zip(_POINTERS, given, strict=True):
                arguments[name] = array.address
            for name, value in zip(_NUMBERS, (maps, channels, rows, columns, count, stride, offset), strict=True):
                arguments[name] = value
            arguments["smallest_side"], arguments["power"], arguments["norm"] = self._smallest_side, self._power, norm
            launch, parts = self._kernels.launch, -(-channels // TILE)
            launch("boxes_in_cells", arguments, (-(-count // THREADS),), THREADS)
            grid = (-(-rows * columns // TILE), parts * maps)
            launch("raise_maps", arguments, grid, THREADS, 4 * TILE * (TILE + 1))
            launch("pool_regions", arguments, (count, -(-channels // THREADS)), THREADS)
            if norm:
                launch("normalise_regions", arguments, (count,), THREADS, 4 * (THREADS // 32))


def pool_boxes(device: Device, values: np.ndarray, boxes: np.ndarray, power: float) -> np.ndarray:
    """``edge_claid.ops.reference.pool.pool_boxes`` from and to the host: boxes in cells, nothing normalised."""
    if not len(boxes):
        return np.empty((0, values.shape[0]), np.float32)
    with contextlib.ExitStack() as stack:

        def uploaded(array: np.ndarray) -> DeviceArray:
            kept = device.upload(array)
            stack.callback(kept.close)
            return kept

        # A picture whose pixels are the cells: its boxes in cells are its boxes in pixels.
        size = np.array([values.shape[:0:-1]], np.int32)
        regions = RegionsOfMaps(
            uploaded(np.ascontiguousarray(boxes, np.float32)), uploaded(np.zeros(len(boxes), np.int32)), uploaded(size)
        )
        pooled = device.empty((len(boxes), values.shape[0]), np.float32)
        stack.callback(pooled.close)
        maps = uploaded(np.ascontiguousarray(values[None], np.float32))
        MapPooling(device, power, 0.0).pool(maps, regions, pooled, norm=0.0)
        return device.download(pooled)
