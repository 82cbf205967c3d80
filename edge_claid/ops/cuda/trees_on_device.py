"""What the decomposition leaves on a CUDA device: trees of nodes, and the regions among them."""

from __future__ import annotations

import contextlib
from functools import cached_property

import numpy as np

from edge_claid.errors import BadImageError
from edge_claid.ops.cuda.device import Device, DeviceArray
from edge_claid.ops.reference.region_tree import Tree

THREADS = 256
NOT_FINITE, TOO_MANY_NODES = 1, 2
TREE_ARRAYS = ("masks", "parents", "depths", "areas", "high_counts", "edges")

# struct Selection of decomposition/regions.cuh.
REGION_ARGUMENTS = np.dtype(
    [
        (name, np.uint64)
        for name in ("states", "masks", "parents", "areas", "high_counts", "sizes", "kept", "kept_parents", "region_of")
    ]
    + [("boxes", np.uint64), ("counts", np.uint64), ("tau2", np.float64), ("merge_iou", np.float64)]
    + [(name, np.int32) for name in ("images", "rows", "columns", "words", "capacity", "_end")]
)
# struct ImageState of decomposition/arguments.h.
STATE = np.dtype(
    [("peak", np.uint32)]
    + [(name, np.int32) for name in ("largest", "shift", "half", "threshold", "unit")]
    + [("energy_threshold", np.uint32), ("status", np.int32), ("nodes", np.int32)]
)


class TreesOnDevice:
    """Trees of a batch, still on the device; valid until the next run with the same buffers.

    arrays: masks (B, capacity, words) uint32 and parents, depths, areas, high_counts, edges (B, capacity) int32.
    images: B. grid: (rows, columns) of the tokens.
    """

    def __init__(self, device: Device, arrays: dict[str, DeviceArray], images: int, grid: tuple[int, int]) -> None:
        self._device, self.arrays, self.images, self._grid = device, arrays, images, grid

    @cached_property
    def states(self) -> np.ndarray:
        """(B,) STATE, on the host; waits for the trees."""
        return self._device.download(self.arrays["states"].part(0, self.images))

    def too_large(self) -> bool:
        """Whether a tree has more nodes than there was room for."""
        return bool((self.states["status"] & TOO_MANY_NODES).any())

    def download(self) -> list[Tree | BadImageError]:
        """Every image's tree on the host; in place of one whose tokens are not finite stands the error."""
        images = self.images
        host = {name: self._device.download(self.arrays[name].part(0, images)) for name in TREE_ARRAYS}
        return [self._tree(host, image) for image in range(images)]

    def regions(
        self, sizes: DeviceArray, tau2: float, merge_iou: float, room: RegionsOnDevice | None = None
    ) -> RegionsOnDevice:
        """Choose the regions and find their boxes, on the device (see regions/claid.py, kept_nodes).

        sizes: (B, 2) int32, width and height of each picture. room: where they are written, for as many nodes as the
        trees have room for; None makes it. The caller closes what is returned.
        """
        images, capacity = self.images, self.arrays["parents"].shape[1]
        found = RegionsOnDevice(self._device, images, capacity) if room is None else room
        arguments = np.zeros((), REGION_ARGUMENTS)
        for name in ("states", "masks", "parents", "areas", "high_counts"):
            arguments[name] = self.arrays[name].address
        for name, array in found.arrays.items():
            arguments[name] = array.address
        arguments["sizes"], arguments["tau2"], arguments["merge_iou"] = sizes.address, tau2, merge_iou
        arguments["images"], arguments["capacity"] = images, capacity
        arguments["rows"], arguments["columns"] = self._grid
        arguments["words"] = self.arrays["masks"].shape[2]
        self._device.kernels("decomposition").launch("select_regions", arguments, (images,), THREADS, 16)
        return found

    def _tree(self, host: dict[str, np.ndarray], image: int) -> Tree | BadImageError:
        if self.states["status"][image] & NOT_FINITE:
            return BadImageError(
                "tokens are not finite, or so large that their norm is not: check the network's output"
            )
        nodes, tokens = int(self.states["nodes"][image]), self._grid[0] * self._grid[1]
        masks = host["masks"][image, :nodes].astype("<u4").view(np.uint8)[:, : -(-tokens // 8)]
        small = {name: host[name][image, :nodes].copy() for name in TREE_ARRAYS if name != "masks"}
        edges = small["edges"].astype(np.int64)
        return Tree(masks.copy(), small["parents"], small["depths"], small["areas"], small["high_counts"], edges)


class RegionsOnDevice:
    """Regions of a batch on the device.

    arrays: kept, kept_parents (B, capacity) int32, boxes (B, capacity, 4) float32 in pixels, counts (B,) int32.
    """

    def __init__(self, device: Device, images: int, capacity: int) -> None:
        self.arrays: dict[str, DeviceArray] = {}
        with contextlib.ExitStack() as opening:
            for name in ("kept", "kept_parents", "region_of", "boxes", "counts"):
                shape: tuple[int, ...] = (images,) if name == "counts" else (images, capacity)
                shape = (*shape, 4) if name == "boxes" else shape
                self.arrays[name] = device.empty(shape, np.float32 if name == "boxes" else np.int32)
                opening.callback(self.arrays[name].close)
            opening.pop_all()

    def close(self) -> None:
        """Give the memory back."""
        for array in self.arrays.values():
            array.close()
