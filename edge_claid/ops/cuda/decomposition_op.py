"""The decomposition on a CUDA device: many images a launch, the reference's trees bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_claid.errors import BadImageError, MachineError, UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray
from edge_claid.ops.cuda.trees_on_device import STATE, TOO_MANY_NODES, TREE_ARRAYS, TreesOnDevice
from edge_claid.ops.reference.decomposition import check_request, high_energy_rank, visiting_order
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings
from edge_claid.ops.reference.region_tree import Tree

THREADS = 256
TILE = 128
GRAM_SHARED = TILE * (TILE + 2) * 2
SCALARS_SHARED = 4 * 256 + 8
MOST_IMAGES = 65535  # blocks that a launch may have along y
CAPACITY = 512  # nodes an image at first; an image with more is redone with room for them

# struct Decomposition of decomposition/arguments.h.
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


class CudaDecomposition:
    """Buffers for up to `images` images of one grid and width, kept between launches. Use in a ``with`` block.

    Raises UsageError for a shape beyond the op's bounds, MachineError where the grid does not fit the device's shared
    memory or the buffers not its memory.
    """

    def __init__(self, device: Device, images: int, grid: tuple[int, int], width: int) -> None:
        count = grid[0] * grid[1]
        check_request(np.empty((count, width), np.float32), grid, None)
        if not 0 < images <= MOST_IMAGES:
            raise UsageError(f"{images} images a launch: from 1 to {MOST_IMAGES}")
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
        for name in TREE_ARRAYS:
            if name in self._arrays:
                self._arrays.pop(name).close()

    def _make_room(self, capacity: int) -> None:
        self._give_room_back()
        self._capacity = capacity
        for name in TREE_ARRAYS:
            shape = (self._images, capacity, self._words) if name == "masks" else (self._images, capacity)
            self._arrays[name] = self._device.empty(shape, np.uint32 if name == "masks" else np.int32)

    def run(self, features: DeviceArray, center: DeviceArray | None = None, **settings: Any) -> TreesOnDevice:
        """Decompose features (B, N, D) float32 on the device, B at most the buffers' images.

        settings: fields of DecompositionSettings. Raises UsageError for another shape. Waits for the result's sizes,
        not for a copy of it; where an image has more nodes than there is room for, the room grows and the last kernel
        runs again.
        """
        trees = self.start(features, center, **settings)
        chosen = DecompositionSettings(**settings)
        while trees.too_large():
            self.enlarge(chosen.max_nodes)
            cleared = trees.states.copy()
            cleared["status"] &= ~TOO_MANY_NODES
            self._device.upload(cleared, self._arrays["states"])
            arguments = self._arguments(features, center, chosen)
            self._kernels.launch("grow_tree", arguments, (len(cleared), 1), THREADS, self._shared)
            trees = self.trees(len(cleared))
        return trees

    def enlarge(self, max_nodes: int = DecompositionSettings.max_nodes) -> None:
        """Twice the room for trees; what lay in it is lost."""
        self._make_room(min(2 * self._capacity, max_nodes))

    def start(self, features: DeviceArray, center: DeviceArray | None = None, **settings: Any) -> TreesOnDevice:
        """As ``run``, but neither waits nor grows: ``too_large`` of what it returns says whether room was missing."""
        if features.shape[1:] != (self._tokens, self._width) or not 0 < features.shape[0] <= self._images:
            raise UsageError(
                f"tokens of shape {features.shape}; these buffers take up to {self._images} x "
                f"{self._tokens} x {self._width}"
            )
        chosen = DecompositionSettings(**settings)
        if chosen.max_nodes >= 0xFFFF:
            raise UsageError(f"max_nodes = {chosen.max_nodes}: this backend takes less than 65535")
        images = features.shape[0]
        states = self._arrays["states"]
        self._device.fill(states, 0)
        arguments = self._arguments(features, center, chosen)
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

    def _arguments(
        self, features: DeviceArray, center: DeviceArray | None, settings: DecompositionSettings
    ) -> np.ndarray:
        values = np.zeros((), ARGUMENTS)
        for name, array in self._arrays.items():
            values[name] = array.address
        values["features"] = features.address
        values["center"] = 0 if center is None else center.address
        for name in ("alpha", "tau1", "smallest", "max_nodes"):
            values[name] = getattr(settings, name)
        values["energy_rank"] = high_energy_rank(self._tokens, settings.energy_share)
        values["images"], values["capacity"] = features.shape[0], self._capacity
        values["rows"], values["columns"] = self._grid
        values["tokens"], values["width"], values["stride"] = self._tokens, self._width, self._stride
        values["padded"], values["words"] = self._padded, self._words
        return values


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
    **settings: Any,
) -> list[Tree | BadImageError]:
    """Trees of images (N, D) float32 of one grid, from and to the host; see CudaDecomposition.run."""
    if not len(images):
        return []
    batch = np.ascontiguousarray(np.stack(images), np.float32)
    for features in batch:
        check_request(features, grid, center)
    with contextlib.ExitStack() as stack:
        op = stack.enter_context(CudaDecomposition(device, len(batch), grid, batch.shape[2]))
        features = device.upload(batch)
        stack.callback(features.close)
        middle = None if center is None else device.upload(np.ascontiguousarray(center, np.float32))
        if middle is not None:
            stack.callback(middle.close)
        return op.run(features, middle, **settings).download()
