"""Frames of a camera to the planes a network takes, on a CUDA device."""

from __future__ import annotations

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray

THREADS = 256
LAYOUTS = {"bgr": 0, "rgb": 1, "nv12": 2}

# struct Preprocess of preprocess/preprocess.cu.
_NUMBERS = ("layout", "width", "height", "pitch", "to_width", "to_height")
ARGUMENTS = np.dtype(
    [(name, np.uint64) for name in ("pixels", "colour", "planes")]
    + [("scale", np.float32, 3), ("offset", np.float32, 3)]
    + [(name, np.int32) for name in _NUMBERS]
)


def network_planes(
    device: Device,
    pixels: DeviceArray,
    layout: str,
    planes: DeviceArray,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    """Resize and normalise one frame.

    pixels: (H, W, 3) uint8 for "bgr" and "rgb"; (H * 3 / 2, W) uint8 for "nv12" (BT.601, limited range), H and W even.
    planes: (1, 3, height, width) float32, written: (value / 255 - mean) / std of red, green, blue. mean, std: as the
    network's entry in the zoo has them. Shrinking averages over the area, like the CPU path; growing is by the pixels
    nearest, where the CPU's is cubic. Raises UsageError for a layout or shape that cannot be.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"no pixel layout {layout!r}: choose of {', '.join(LAYOUTS)}")
    height, width = pixels.shape[0] * 2 // 3 if layout == "nv12" else pixels.shape[0], pixels.shape[1]
    wanted = (height * 3 // 2, width) if layout == "nv12" else (height, width, 3)
    if pixels.shape != wanted or (layout == "nv12" and (height % 2 or width % 2)):
        raise UsageError(f"pixels of shape {pixels.shape} are no {layout} frame")
    arguments = np.zeros((), ARGUMENTS)
    arguments["pixels"], arguments["planes"] = pixels.address, planes.address
    arguments["colour"] = pixels.address + width * height if layout == "nv12" else 0
    arguments["scale"] = [1.0 / (255.0 * value) for value in std]
    arguments["offset"] = [m / s for m, s in zip(mean, std, strict=True)]
    pitch = width if layout == "nv12" else 3 * width
    numbers = (LAYOUTS[layout], width, height, pitch, planes.shape[3], planes.shape[2])
    for name, value in zip(_NUMBERS, numbers, strict=True):
        arguments[name] = value
    grid = (-(-planes.shape[3] // THREADS), planes.shape[2])
    device.kernels("preprocess").launch("network_planes", arguments, grid, THREADS)
