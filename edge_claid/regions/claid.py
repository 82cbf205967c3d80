"""CLAID: instance regions by hierarchical bisecting of a picture's tokens (papers/claid.txt §III).

The op does the arithmetic and gives the whole hierarchy; which of its nodes are regions is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from edge_claid.config import RegionSettings
from edge_claid.errors import BadImageError, UsageError
from edge_claid.records import Regions, Tokens


class NodeTree(Protocol):
    """The op's answer (see edge_claid/ops/reference/region_tree.py): all nodes, breadth first, row 0 the root."""

    @property
    def masks(self) -> np.ndarray: ...
    @property
    def parents(self) -> np.ndarray: ...
    @property
    def depths(self) -> np.ndarray: ...
    @property
    def areas(self) -> np.ndarray: ...
    def energy(self) -> np.ndarray: ...
    def connectivity(self) -> np.ndarray: ...


Decompose = Callable[..., NodeTree]


class ClaidDetector:
    """Regions of a picture from its tokens.

    settings: see RegionSettings. decompose: the op, in integers or in floating point (they take the same arguments;
    see edge_claid/ops/reference/decomposition.py). mean_token: (D,) float32, the network's mean token, needed where
    settings.center asks for it.
    Raises UsageError where the mean token is missing.
    """

    def __init__(self, settings: RegionSettings, decompose: Decompose, mean_token: np.ndarray | None = None) -> None:
        if settings.center and mean_token is None:
            raise UsageError("region settings ask for centring, but the network has no mean token: set center = false")
        self._settings = settings
        self._decompose = decompose
        self._center = np.ascontiguousarray(mean_token, np.float32) if settings.center else None

    def detect(self, tokens: Tokens) -> Regions:
        """One picture's regions, row 0 the whole picture.

        Raises BadImageError where tokens are not finite, UsageError where they do not fit their grid.
        """
        chosen = self._settings
        tree = self._decompose(
            np.ascontiguousarray(tokens.features, np.float32),
            tokens.grid,
            center=self._center,
            **chosen.decomposition,
        )
        kept, parents = kept_nodes(tree, chosen.tau2, chosen.merge_iou)
        return regions_from_nodes(tree, kept, parents, tokens)

    def detect_batch(self, batch: Sequence[Tokens], threads: int) -> list[Regions | BadImageError]:
        """Regions of many pictures, in their order, over `threads` threads; the same as one by one.

        A picture that cannot be used has its error in its place: it never ends the batch. The op works without the
        interpreter's lock and each thread has memory of its own.
        Raises UsageError where tokens do not fit their grid, or for less than one thread.
        """
        if threads < 1:
            raise UsageError(f"{threads} threads: at least one is needed")
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._detect_or_error, batch))

    def _detect_or_error(self, tokens: Tokens) -> Regions | BadImageError:
        try:
            return self.detect(tokens)
        except BadImageError as error:
            return error


def kept_nodes(tree: NodeTree, tau2: float, merge_iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Which nodes are regions: (R,) rows of the tree, and (R,) int32 parents among them, -1 for the root.

    The root is always kept. Others are regions where more than tau2 of their tokens have high energy (eq. 10; the
    rest are dummy nodes, §III-D), unless they overlap their nearest kept ancestor by more than merge_iou: a node lies
    inside its ancestors, so that IoU is the ratio of their areas.
    """
    energy = np.asarray(tree.energy())
    region_of = np.zeros(len(tree.parents), np.int32)  # row among the kept of the node or its nearest kept ancestor
    kept, parents = [0], [-1]
    for node in range(1, len(tree.parents)):
        ancestor = region_of[tree.parents[node]]
        overlap = tree.areas[node] / tree.areas[kept[ancestor]]
        if energy[node] > tau2 and overlap <= merge_iou:
            region_of[node] = len(kept)
            kept.append(node)
            parents.append(int(ancestor))
        else:
            region_of[node] = ancestor
    return np.array(kept), np.array(parents, np.int32)


def regions_from_nodes(tree: NodeTree, kept: np.ndarray, parents: np.ndarray, tokens: Tokens) -> Regions:
    """The record of the kept nodes, boxes in pixels of the original picture."""
    masks = tree.masks[kept]
    return Regions(
        boxes=boxes_from_masks(masks, tokens.grid, tokens.image_size),
        parents=parents,
        depths=tree.depths[kept],
        areas=tree.areas[kept],
        energy=tree.energy()[kept].astype(np.float32),
        connectivity=tree.connectivity()[kept].astype(np.float32),
        masks=masks,
        grid=tokens.grid,
        image_size=tokens.image_size,
    )


def boxes_from_masks(masks: np.ndarray, grid: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
    """Smallest boxes around token masks: (R, ceil(N / 8)) packed -> (R, 4) float32 pixels, x1 and y1 exclusive.

    Token (y, x) covers columns x W / w to (x + 1) W / w of the picture, and rows alike, each axis by its own scale.
    """
    rows, columns = grid
    width, height = image_size
    cells = np.unpackbits(masks, axis=1, count=rows * columns, bitorder="little").reshape(-1, rows, columns)
    boxes = np.empty((len(masks), 4), np.float64)
    for axis, cell_count, extent, first in ((1, columns, width, 0), (2, rows, height, 1)):
        used = np.any(cells, axis=axis)
        boxes[:, first] = used.argmax(axis=1) * (extent / cell_count)
        boxes[:, first + 2] = (cell_count - used[:, ::-1].argmax(axis=1)) * (extent / cell_count)
    return boxes.astype(np.float32)
