"""What a scan on a CUDA device found, as it comes to the host."""

from __future__ import annotations

import numpy as np

UNTOUCHED = np.uint64(2**64 - 1)

# Images (Q, k) int32, distances (Q, k) float32, rows (Q, k) int64; missing places hold -1, infinity, -1.
Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def nothing_found(queries: int, k: int) -> Found:
    """Missing places only."""
    return (
        np.full((queries, k), -1, np.int32),
        np.full((queries, k), np.inf, np.float32),
        np.full((queries, k), -1, np.int64),
    )


def padded(found: Found, k: int) -> Found:
    """The same with as many missing places behind it as make k."""
    queries, there = found[0].shape
    if there == k:
        return found
    images, distances, rows = nothing_found(queries, k)
    images[:, :there], distances[:, :there], rows[:, :there] = found
    return images, distances, rows


def found_from_bytes(content: np.ndarray, queries: int, k: int) -> Found:
    """Of the rows, images and distances that select_images left one behind the other."""
    count = queries * k
    rows, images, distances = np.split(content, [8 * count, 12 * count])
    shape = (queries, k)
    return (
        images.view(np.int32).reshape(shape),
        distances.view(np.float32).reshape(shape),
        rows.view(np.int64).reshape(shape),
    )


def found_from_best(best: np.ndarray, k: int) -> Found:
    """Of every image's best row. best: (Q, I) uint64, ordered distance over row, or UNTOUCHED."""
    images, distances, rows = nothing_found(len(best), k)
    for query, keys in enumerate(best):
        there = np.flatnonzero(keys != UNTOUCHED)
        order = there[np.argsort(keys[there] >> np.uint64(32), kind="stable")][:k]
        images[query, : len(order)] = order
        distances[query, : len(order)] = _float_of((keys[order] >> np.uint64(32)).astype(np.uint32))
        rows[query, : len(order)] = (keys[order] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return images, distances, rows


def _float_of(ordered: np.ndarray) -> np.ndarray:
    return np.where(ordered >> 31, ordered & np.uint32(0x7FFFFFFF), ~ordered).astype(np.uint32).view(np.float32)
