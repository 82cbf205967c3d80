"""Tokens to trees on the GPU, for tools/bench_cuda.py: the CPU's to the bit, and how fast by batch and by size."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_claid.ops.cuda.decomposition_op import CudaDecomposition
from edge_claid.ops.reference.region_tree import Tree

SETTINGS = {"alpha": 0.25, "tau1": 0.99, "smallest": 8}
ASKED = (32, 32)  # what the figures are asked for


def asked_grid(tokens: dict[tuple[int, int], list[np.ndarray]]) -> tuple[int, int]:
    """The grid that is measured: the one asked for, or the one with most pictures."""
    return ASKED if ASKED in tokens else max(tokens, key=lambda one: len(tokens[one]))


def milliseconds(device: Any, work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median and 99th percentile of the wall time of `work`, the device waited for; three unmeasured ones first."""
    for _ in range(3):
        work()
    device.synchronize()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        device.synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return {"median_ms": float(np.median(times)), "p99_ms": float(np.percentile(times, 99))}


def same(a: Any, b: Tree) -> bool:
    names = ("masks", "parents", "depths", "areas", "high", "edges")
    return isinstance(a, Tree) and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def bench_identity(device: Any, tokens: dict[tuple[int, int], list[np.ndarray]]) -> dict[str, int]:
    """How many pictures' trees are the CPU's to the bit."""
    from edge_claid.ops.cpu import decomposition_op as cpu_decomposition

    equal = total = 0
    for grid, images in tokens.items():
        with CudaDecomposition(device, 1, grid, images[0].shape[1]) as op:
            for features in images:
                with contextlib.closing(device.upload(features[None])) as uploaded:
                    (tree,) = op.run(uploaded, **SETTINGS).download()
                equal += same(tree, cpu_decomposition.decompose(features, grid, **SETTINGS))
                total += 1
    return {"pictures": total, "identical": equal}


def bench_decomposition(
    device: Any, images: list[np.ndarray], grid: tuple[int, int], quick: bool
) -> list[dict[str, Any]]:
    """Time by batch, from tokens on the device to trees on the device; the CPU's one thread beside it."""
    cpu_ms, rows = cpu_milliseconds(images[:8], grid), []
    for batch in (1, 2) if quick else (1, 4, 16, 64, 256):
        stacked = np.stack([images[i % len(images)] for i in range(batch)])
        with (
            CudaDecomposition(device, batch, grid, stacked.shape[2]) as op,
            contextlib.closing(device.upload(stacked)) as uploaded,
        ):
            figures = milliseconds(device, lambda op=op, x=uploaded: op.run(x, **SETTINGS), 3 if quick else 30)
        rate = batch / figures["median_ms"] * 1000
        shape = f"{grid[0]}x{grid[1]}x{stacked.shape[2]}"
        rows.append({"tokens": shape, "batch": batch, **figures, "images_per_second": rate, "cpu_ms_an_image": cpu_ms})
    return rows


def cpu_milliseconds(images: list[np.ndarray], grid: tuple[int, int]) -> float | None:
    """Of an image, by one thread; None where the CPU's ops could not be built, which costs no figure of the GPU."""
    try:
        from edge_claid.ops.cpu import decomposition_op as cpu_decomposition
    except ImportError:
        return None
    start = time.perf_counter()
    for features in images:
        cpu_decomposition.decompose(features, grid, **SETTINGS)
    return (time.perf_counter() - start) * 1000 / len(images)


def bench_growth(device: Any, features: np.ndarray, grid: tuple[int, int], quick: bool) -> list[dict[str, Any]]:
    """Time of one picture and of sixteen by number of tokens and by their length.

    features: (N, D) of a picture, cropped or mirrored to each size.
    """
    length = features.shape[1]
    sizes = [(5, 5, length)] if quick else [(side, side, length) for side in (16, 32, 48, 64)]
    sizes += [(*grid, length // 2), (*grid, 2 * length)]
    rows = []
    for high, wide, many in sizes:
        tokens = sized_tokens(features.reshape(*grid, -1), (high, wide, many))
        for batch in (1, 2 if quick else 16):
            stacked = np.stack([tokens] * batch)
            with (
                CudaDecomposition(device, batch, (high, wide), many) as op,
                contextlib.closing(device.upload(stacked)) as uploaded,
            ):
                figures = milliseconds(device, lambda op=op, x=uploaded: op.run(x, **SETTINGS), 3 if quick else 10)
            rows.append({"tokens": f"{high}x{wide}x{many}", "batch": batch, **figures})
    return rows


def sized_tokens(field: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """(N, D) of a field of tokens (rows, columns, D), cropped or mirrored to another (rows, columns, D)."""
    missing = [(0, max(0, wanted - there)) for wanted, there in zip(size, field.shape, strict=True)]
    high, wide, many = size
    return np.ascontiguousarray(np.pad(field, missing, "symmetric")[:high, :wide, :many]).reshape(high * wide, many)
