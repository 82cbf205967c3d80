"""RoI pooling of many maps on a CUDA device; the contract of edge_claid.ops.reference.pool, to float32 rounding."""

from __future__ import annotations

import contextlib

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray

THREADS = 256
TILE = 32

# struct Pool of pool/pool.cu.
_POINTERS = ("values", "raised", "boxes", "images", "pooled")
_NUMBERS = ("maps", "channels", "rows", "columns", "regions", "normalise")
ARGUMENTS = np.dtype(
    [(name, np.uint64) for name in _POINTERS]
    + [(name, np.int32) for name in _NUMBERS]
    + [("power", np.float32), ("_end", np.int32)]
)


def pool_on_device(
    device: Device,
    values: DeviceArray,
    boxes: DeviceArray,
    images: DeviceArray,
    power: float,
    pooled: DeviceArray,
    raised: DeviceArray,
    normalise: bool = True,
) -> None:
    """Pool maps over regions, all on the device.

    values: (B, C, h, w) float32, not negative. boxes: (R, 4) float32 in cells. images: (R,) int32, each region's map.
    power: of the generalised mean; infinity takes the maximum. pooled: (R, C) float32, written; of unit norm with
    `normalise`. raised: room for as many values as there are. Raises UsageError for shapes that do not fit.
    """
    maps, channels, rows, columns = values.shape
    regions = boxes.shape[0]
    if boxes.shape != (regions, 4) or images.shape != (regions,) or pooled.shape != (regions, channels):
        raise UsageError(f"boxes {boxes.shape}, images {images.shape} and {pooled.shape} do not fit {values.shape}")
    if raised.nbytes < values.nbytes:
        raise UsageError(f"the room for raised values is {raised.nbytes} bytes, {values.nbytes} are needed")
    if not regions:
        return
    kernels = device.kernels("pool")
    arguments = np.zeros((), ARGUMENTS)
    for name, array in zip(_POINTERS, (values, raised, boxes, images, pooled), strict=True):
        arguments[name] = array.address
    for name, value in zip(_NUMBERS, (maps, channels, rows, columns, regions, normalise), strict=True):
        arguments[name] = value
    arguments["power"] = power
    parts = -(-channels // TILE)
    kernels.launch("raise_maps", arguments, (-(-rows * columns // TILE), parts * maps), THREADS, 4 * TILE * (TILE + 1))
    kernels.launch("pool_regions", arguments, (regions, -(-channels // THREADS)), THREADS)
    if normalise:
        kernels.launch("normalise_regions", arguments, (regions,), THREADS, 4 * (THREADS // 32))


def pool_boxes(device: Device, values: np.ndarray, boxes: np.ndarray, power: float) -> np.ndarray:
    """``edge_claid.ops.reference.pool.pool_boxes`` from and to the host."""
    if not len(boxes):
        return np.empty((0, values.shape[0]), np.float32)
    with contextlib.ExitStack() as stack:

        def kept(array: DeviceArray) -> DeviceArray:
            stack.callback(array.close)
            return array

        maps = kept(device.upload(np.ascontiguousarray(values[None], np.float32)))
        where = kept(device.upload(np.ascontiguousarray(boxes, np.float32)))
        images = kept(device.upload(np.zeros(len(boxes), np.int32)))
        pooled = kept(device.empty((len(boxes), values.shape[0]), np.float32))
        raised = kept(device.empty(maps.shape, np.float32))
        pool_on_device(device, maps, where, images, power, pooled, raised, normalise=False)
        return device.download(pooled)
