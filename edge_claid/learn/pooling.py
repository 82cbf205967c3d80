"""Pooling of maps over boxes that gradients flow through; gives what edge_claid/descriptors/pool.py gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from edge_claid.config import DescriptorSettings
from edge_claid.descriptors.pool import cells_from_pixels

_LEAST = 1e-12  # of a mean of powers: the root's slope at 0 is infinite


def pooled_boxes(values: torch.Tensor, boxes: np.ndarray, power: float) -> torch.Tensor:
    """Generalised mean of a map over boxes, each cell weighted by the share of it that the box covers.

    values: (C, h, w) float, not negative. boxes: (R, 4) float32, x0, y0, x1, y1 in cells. power: infinity takes the
    maximum over all touched cells. Returns (R, C). Equal to edge_claid.ops.reference.pool.pool_boxes.
    """
    if np.isinf(power):
        first, last = np.floor(boxes[:, :2]).astype(int), np.ceil(boxes[:, 2:]).astype(int)
        spans = zip(first, last, strict=True)
        return torch.stack([values[:, y0:y1, x0:x1].amax(dim=(1, 2)) for (x0, y0), (x1, y1) in spans])
    corners = torch.from_numpy(boxes).to(values)
    columns = _shares(corners[:, 0], corners[:, 2], values.shape[2])
    rows = _shares(corners[:, 1], corners[:, 3], values.shape[1])
    sums = torch.einsum("rh,chw,rw->rc", rows, values**power, columns)
    area = rows.sum(dim=1) * columns.sum(dim=1)
    return (sums / area[:, None]).clamp(min=_LEAST) ** (1.0 / power)


def pooled_descriptors(
    maps: Sequence[torch.Tensor], boxes: np.ndarray, image_size: tuple[int, int], settings: DescriptorSettings
) -> torch.Tensor:
    """Descriptors of unit norm of one picture's boxes, as RegionPooling.describe gives them.

    maps: the last map (C, h, w) and the inner ones of strides 16 and 8. boxes: (R, 4), pixels of the original picture.
    image_size: (width, height) of that. Returns (R, D).
    """
    shares = (1.0, settings.share_16, settings.share_8)
    whole = sum(shares)
    parts = []
    for values, share in zip(maps, shares, strict=True):
        if share:
            cells = cells_from_pixels(boxes, tuple(values.shape[1:]), image_size, settings)
            pooled = functional.normalize(pooled_boxes(values, cells, settings.power), dim=1)
            parts.append(pooled * float(np.sqrt(share / whole)))
    return torch.cat(parts, dim=1)


def _shares(start: torch.Tensor, stop: torch.Tensor, cells: int) -> torch.Tensor:
    """Share of each cell that [start, stop) covers: (R,) and (R,) to (R, cells)."""
    edges = torch.arange(cells + 1, device=start.device, dtype=start.dtype)
    return (torch.minimum(edges[1:], stop[:, None]) - torch.maximum(edges[:-1], start[:, None])).clamp(0, 1)
