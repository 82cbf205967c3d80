"""The decomposition on a CUDA device: many images a launch, the reference's trees bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from edge_claid.errors import BadImageError, MachineError, UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray
from edge_claid.ops.reference.decomposition import check_request, high_energy_rank, visiting_order
from edge_claid.ops.reference.region_tree import Tree

THREADS = 256
TILE = 128
GRAM_SHARED = TILE * (TILE + 2) * 2
SCALARS_SHARED = 4 * 256 + 8
NOT_FINITE, TOO_MANY_NODES = 1, 2
MAX_NODES = 4096
CAPACITY = 512  # nodes an image at first; an image with more is redone with room for them

# struct Decomposition and struct ImageState of decomposition/arguments.h.
_POINTERS = (
    "features", "center", "order", "energy", "inverse", "packed", "gram", "bits", "high", "states", "masks",
    "parents", "depths", "areas", "high_counts", "edges",
)  # fmt: skip
_NUMBERS = (
    "images", "rows", "columns", "tokens", "width", "stride", "padded", "words", "energy_rank", "smallest",
    "max_nodes", "capacity",
)  # fmt: skip
ARGUMENTS = np.dtype(
    [(name, np.uint64) for name in _POINTERS]
    + [("alpha", np.float64), ("tau1", np.float64)]
    + [(name, np.int32) for name in _NUMBERS]
)
# struct Selection of decomposition/regions.cuh.
REGION_ARGUMENTS = np.dtype(
    [
        (name, np.uint64)
        for name in ("states", "masks", "parents", "areas", "high_counts", "sizes", "kept", "kept_parents", "region_of")
    ]
    + [("boxes", np.uint64), ("counts", np.uint64), ("tau2", np.float64), ("merge_iou", np.float64)]
    + [(name, np.int32) for name in ("images", "rows", "columns", "words", "capacity", "_end")]
)
STATE = np.dtype(
    [("peak", np.uint32)]
    + [(name, np.int32) for name in ("largest", "shift", "half", "threshold", "unit")]
    + [("energy_threshold", np.uint32), ("status", np.int32), ("nodes", np.int32)]
)


class CudaDecomposition:
    """Buffers for up to `images` images of one grid and width, kept between launches. Use in a ``with`` block.

    Raises UsageError for a shape beyond the op's bounds, MachineError where the grid does not fit the device's shared
    memory or the buffers not its memory.
    """

    def __init__(self, device: Device, images: int, grid: tuple[int, int], width: int) -> None:
        count = grid[0] * grid[1]
        check_request(np.empty((count, width), np.float32), grid, None, 1, 1)
        self._device, self._grid, self._images, self._capacity = device, grid, images, CAPACITY
        self._kernels = device.kernels("decomposition")
        self._tokens, self._width = count, width
        self._stride = -(-width // 16) * 16
        self._padded = -(-count // TILE) * TILE
        self._words = self._padded // 32
        self._shared = room_bytes(self._padded)
        if self._shared > device.shared_limit:
            raise MachineError(
                f"{count} tokens need {self._shared} bytes of shared memory, this GPU has {device.shared_limit}: "
                "use a smaller input size, or the cpu backend"
            )
        self._resources = contextlib.ExitStack()
        self._arrays: dict[str, DeviceArray] = {}

    def __enter__(self) -> CudaDecomposition:
        images, padded, count = self._images, self._padded, self._tokens
        with contextlib.ExitStack() as opening:
            for name, shape, dtype in (
                ("energy", (images, count), np.float32),
                ("inverse", (images, count), np.float32),
                ("packed", (images, padded, self._stride), np.int8),
                ("gram", (images, padded, padded), np.int16),
                ("bits", (images, padded, self._words), np.uint32),
                ("high", (images, self._words), np.uint32),
                ("states", (images,), STATE),
            ):
                self._arrays[name] = self._device.empty(shape, dtype)
                opening.callback(self._arrays[name].close)
            self._arrays["order"] = self._device.upload(visiting_order(count).astype(np.uint16))
            opening.callback(self._arrays["order"].close)
            opening.callback(self._give_room_back)
            self._make_room(CAPACITY)
            self._resources = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _give_room_back(self) -> None:
        for name in _TREE:
            if name in self._arrays:
                self._arrays.pop(name).close()

    def _make_room(self, capacity: int) -> None:
        self._give_room_back()
        self._capacity = capacity
        for name in _TREE:
            shape = (self._images, capacity, self._words) if name == "masks" else (self._images, capacity)
            self._arrays[name] = self._device.empty(shape, np.uint32 if name == "masks" else np.int32)

    def run(
        self,
        features: DeviceArray,
        center: DeviceArray | None = None,
        *,
        alpha: float = 0.2,
        tau1: float = 0.97,
        energy_share: float = 0.3,
        smallest: int = 15,
        max_nodes: int = MAX_NODES,
    ) -> TreesOnDevice:
        """Decompose features (B, N, D) float32 on the device, B at most the buffers' images.

        Raises UsageError for another shape. Waits for the result's sizes, not for a copy of it; where an image has
        more nodes than there is room for, the room grows and the last kernel runs again.
        """
        trees = self.start(
            features,
            center,
            alpha=alpha,
            tau1=tau1,
            energy_share=energy_share,
            smallest=smallest,
            max_nodes=max_nodes,
        )
        settings = (alpha, tau1, high_energy_rank(self._tokens, energy_share), smallest, max_nodes)
        while trees.too_large():
            self.enlarge(max_nodes)
            cleared = trees.states.copy()
            cleared["status"] &= ~TOO_MANY_NODES
            self._device.upload(cleared, self._arrays["states"])
            arguments = self._arguments(features, center, settings)
            self._kernels.launch("grow_tree", arguments, (len(cleared), 1), THREADS, self._shared)
            trees = self.trees(len(cleared))
        return trees

    def enlarge(self, max_nodes: int = MAX_NODES) -> None:
        """Twice the room for trees; what lay in it is lost."""
        self._make_room(min(2 * self._capacity, max_nodes))

    def start(
        self,
        features: DeviceArray,
        center: DeviceArray | None = None,
        *,
        alpha: float = 0.2,
        tau1: float = 0.97,
        energy_share: float = 0.3,
        smallest: int = 15,
        max_nodes: int = MAX_NODES,
    ) -> TreesOnDevice:
        """As ``run``, but neither waits nor grows: ``too_large`` of what it returns says whether room was missing."""
        if features.shape[1:] != (self._tokens, self._width) or not 0 < features.shape[0] <= self._images:
            raise UsageError(
                f"tokens of shape {features.shape}; these buffers take up to {self._images} x "
                f"{self._tokens} x {self._width}"
            )
        if smallest < 1 or not 1 <= max_nodes < 0xFFFF:
            raise UsageError(f"smallest = {smallest}, max_nodes = {max_nodes}: both at least 1, the latter < 65535")
        images = features.shape[0]
        settings = (alpha, tau1, high_energy_rank(self._tokens, energy_share), smallest, max_nodes)
        states = self._arrays["states"]
        self._device.fill(states, 0)
        arguments = self._arguments(features, center, settings)
        tiles = self._padded // TILE
        launch = self._kernels.launch
        launch("token_statistics", arguments, (-(-images * self._tokens * 32 // THREADS), 1), THREADS)
        launch("quantise_tokens", arguments, (self._padded * 32 // THREADS, images), THREADS)
        launch("image_scalars", arguments, (images, 1), THREADS, SCALARS_SHARED)
        launch("gram_tiles", arguments, (tiles * (tiles + 1) // 2, images), THREADS, GRAM_SHARED)
        launch("grow_tree", arguments, (images, 1), THREADS, self._shared)
        return self.trees(images)

    def trees(self, images: int) -> TreesOnDevice:
        """What the last launches leave, also where they were replayed, of so many images."""
        return TreesOnDevice(self._device, dict(self._arrays), images, self._grid)

    def _arguments(self, features: DeviceArray, center: DeviceArray | None, settings: tuple[Any, ...]) -> np.ndarray:
        values = np.zeros((), ARGUMENTS)
        for name, array in self._arrays.items():
            values[name] = array.address
        values["features"] = features.address
        values["center"] = 0 if center is None else center.address
        values["alpha"], values["tau1"], values["energy_rank"], values["smallest"], values["max_nodes"] = settings
        values["images"], values["capacity"] = features.shape[0], self._capacity
        values["rows"], values["columns"] = self._grid
        values["tokens"], values["width"], values["stride"] = self._tokens, self._width, self._stride
        values["padded"], values["words"] = self._padded, self._words
        return values


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
        host = {name: self._device.download(self.arrays[name].part(0, images)) for name in _TREE}
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
        small = {name: host[name][image, :nodes].copy() for name in _TREE if name != "masks"}
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


_TREE = ("masks", "parents", "depths", "areas", "high_counts", "edges")


def room_bytes(padded: int) -> int:
    """Shared memory of a block of grow_tree, as room_in of decomposition/components.cuh lays it out."""
    scalars = -(-(4 * 4 + 5 * 4 + 2 * (THREADS // 32) * 4) // 16) * 16
    return scalars + padded * (4 + 3 * 2 + 2 * 1) + padded // 32 * (4 + 2)


def decompose_batch(
    device: Device,
    images: Sequence[np.ndarray],
    grid: tuple[int, int],
    *,
    center: np.ndarray | None = None,
    alpha: float = 0.2,
    tau1: float = 0.97,
    energy_share: float = 0.3,
    smallest: int = 15,
    max_nodes: int = MAX_NODES,
) -> list[Tree | BadImageError]:
    """Trees of images (N, D) float32 of one grid, from and to the host; see CudaDecomposition.run."""
    if not len(images):
        return []
    batch = np.ascontiguousarray(np.stack(images), np.float32)
    for features in batch:
        check_request(features, grid, center, smallest, max_nodes)
    with contextlib.ExitStack() as stack:
        op = stack.enter_context(CudaDecomposition(device, len(batch), grid, batch.shape[2]))
        features = device.upload(batch)
        stack.callback(features.close)
        middle = None if center is None else device.upload(np.ascontiguousarray(center, np.float32))
        if middle is not None:
            stack.callback(middle.close)
        settings = {"alpha": alpha, "tau1": tau1, "energy_share": energy_share}
        return op.run(features, middle, **settings, smallest=smallest, max_nodes=max_nodes).download()
