"""RoI pooling of many maps on a CUDA device; the contract of edge_claid.ops.reference.pool, to float32 rounding."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray, Scratch

THREADS = 256
TILE = 32

# struct Pool of pool/pool.cu.
_POINTERS = (
    "values", "raised", "boxes", "images", "pooled", "pixels", "sizes", "counted", "masks", "mask_rows", "weights",
)  # fmt: skip
_NUMBERS = (
    "maps", "channels", "rows", "columns", "regions", "stride", "offset", "token_rows", "token_columns", "words",
)  # fmt: skip
ARGUMENTS = np.dtype(
    [(name, np.uint64) for name in _POINTERS]
    + [("inner", np.float64), ("smallest_side", np.float64)]
    + [(name, np.int32) for name in _NUMBERS]
    + [("power", np.float32), ("norm", np.float32)]
)


@dataclass(frozen=True)
class MasksOfRegions:
    """Tokens of regions, on the device.

    words: (., ceil(N / 32)) uint32 at least, bit by bit from the lowest. rows: (R,) int32, which of them is a region's.
    grid: (rows, columns) of the tokens.
    """

    words: DeviceArray
    rows: DeviceArray
    grid: tuple[int, int]


@dataclass(frozen=True)
class RegionsOfMaps:
    """Which regions are pooled, all on the device.

    pixels: (R, 4) float32 boxes in pixels of their pictures. images: (R,) int32, each region's picture. sizes: (B, 2)
    int32, width and height of the pictures. counted: (1,) int32, how many of the R there are, where only the device
    knows; None for all. masks: of the regions; None pools over whole boxes.
    """

    pixels: DeviceArray
    images: DeviceArray
    sizes: DeviceArray
    counted: DeviceArray | None = None
    masks: MasksOfRegions | None = None


class MapPooling:
    """Pools one network map after another into columns of the regions' descriptors. Use in a ``with`` block.

    power: of the generalised mean; infinity takes the maximum. smallest_side: cells that boxes are widened to.
    margin: share of a box's sides that is left out at each side.
    """

    def __init__(self, device: Device, power: float, smallest_side: float, margin: float = 0.0) -> None:
        self._kernels = device.kernels("pool")
        self._power, self._smallest_side, self._inner = power, smallest_side, 1.0 - 2.0 * margin
        self._raised, self._boxes, self._weights = (Scratch(device) for _ in range(3))

    def __enter__(self) -> MapPooling:
        return self

    def __exit__(self, *_: object) -> None:
        for scratch in (self._raised, self._boxes, self._weights):
            scratch.close()

    def pool(
        self, values: DeviceArray, regions: RegionsOfMaps, pooled: DeviceArray, *, offset: int = 0, norm: float = 1.0
    ) -> None:
        """Pool maps over regions into columns [offset, offset + C) of `pooled`, that part of each row of norm `norm`.

        values: (B, C, h, w) float32, not negative. pooled: (R, stride) float32. norm: 0 leaves the norm as it is.
        Raises UsageError for shapes that do not fit.
        """
        maps, channels, rows, columns = values.shape
        count, stride = pooled.shape
        if regions.pixels.shape != (count, 4) or regions.images.shape != (count,) or offset + channels > stride:
            raise UsageError(f"boxes {regions.pixels.shape} and {pooled.shape} from {offset} do not fit {values.shape}")
        if not count:
            return
        arguments = np.zeros((), ARGUMENTS)
        raised, boxes = self._raised.array(values.shape, np.float32), self._boxes.array((count, 4), np.float32)
        given = (values, raised, boxes, regions.images, pooled, regions.pixels, regions.sizes)
        for name, array in zip(_POINTERS, given, strict=False):
            arguments[name] = array.address
        for name, value in zip(_NUMBERS, (maps, channels, rows, columns, count, stride, offset), strict=False):
            arguments[name] = value
        arguments["counted"] = 0 if regions.counted is None else regions.counted.address
        arguments["inner"], arguments["smallest_side"] = self._inner, self._smallest_side
        arguments["power"], arguments["norm"] = self._power, norm
        launch, parts = self._kernels.launch, -(-channels // TILE)
        launch("boxes_in_cells", arguments, (-(-count // THREADS),), THREADS)
        if regions.masks is not None:
            self._add_masks(arguments, regions.masks, count, rows * columns)
            launch("weigh_cells", arguments, (count, -(-rows * columns // THREADS)), THREADS)
        grid = (parts * maps, -(-rows * columns // TILE))
        launch("raise_maps", arguments, grid, THREADS, 4 * TILE * (TILE + 1))
        launch("pool_regions", arguments, (count, parts), THREADS, 12 * THREADS)
        if norm:
            launch("normalise_regions", arguments, (count,), THREADS, 4 * (THREADS // 32))

    def _add_masks(self, arguments: np.ndarray, masks: MasksOfRegions, count: int, cells: int) -> None:
        needed = -(-masks.grid[0] * masks.grid[1] // 32)
        if masks.rows.shape != (count,) or masks.words.shape[1] < needed:
            raise UsageError(f"masks {masks.words.shape} of {masks.grid} tokens do not fit {count} regions")
        arguments["masks"], arguments["mask_rows"] = masks.words.address, masks.rows.address
        arguments["weights"] = self._weights.array((count, cells), np.float32).address
        arguments["token_rows"], arguments["token_columns"] = masks.grid
        arguments["words"] = masks.words.shape[1]


def pool_boxes(
    device: Device, values: np.ndarray, boxes: np.ndarray, power: float, masks: np.ndarray | None = None
) -> np.ndarray:
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
        tokens = None
        if masks is not None:
            words = np.stack([packed_words(mask) for mask in masks])
            tokens = MasksOfRegions(uploaded(words), uploaded(np.arange(len(boxes), dtype=np.int32)), masks.shape[1:])
        boxed = uploaded(np.ascontiguousarray(boxes, np.float32))
        regions = RegionsOfMaps(boxed, uploaded(np.zeros(len(boxes), np.int32)), uploaded(size), masks=tokens)
        pooled = device.empty((len(boxes), values.shape[0]), np.float32)
        stack.callback(pooled.close)
        maps = uploaded(np.ascontiguousarray(values[None], np.float32))
        stack.enter_context(MapPooling(device, power, 0.0)).pool(maps, regions, pooled, norm=0.0)
        return device.download(pooled)


def packed_words(mask: np.ndarray) -> np.ndarray:
    """(rows, columns), true or not, to (ceil(N / 32),) uint32, the first token in the lowest bit."""
    packed = np.packbits(mask.astype(bool).ravel(), bitorder="little")
    return np.pad(packed, (0, -len(packed) % 4)).view("<u4").astype(np.uint32)
