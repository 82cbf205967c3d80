"""The decomposition in C++: the signatures of edge_claid/ops/reference, the same answers bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_claid.errors import BadImageError, UsageError
from edge_claid.ops.cpu import _decomposition
from edge_claid.ops.reference.decomposition import check_request, high_energy_rank
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings
from edge_claid.ops.reference.region_tree import Tree

supported_isas = _decomposition.supported_isas


def decompose(
    features: np.ndarray,
    grid: tuple[int, int],
    *,
    center: np.ndarray | None = None,
    isa: str = "auto",
    **settings: Any,
) -> Tree:
    """See edge_claid.ops.reference.decomposition.decompose.

    isa: one of supported_isas(), or "auto" for the best. One thread; releases the interpreter's lock.
    """
    chosen = DecompositionSettings(**settings)
    features = checked(features, grid, center)
    arguments = arguments_of(features, center, chosen)
    try:
        return Tree(*_decomposition.decompose(features, *grid, arguments, isa))
    except _decomposition.NotFiniteError as error:
        raise BadImageError(str(error)) from None


def decompose_batch(
    images: Sequence[tuple[np.ndarray, tuple[int, int]]],
    *,
    threads: int,
    center: np.ndarray | None = None,
    isa: str = "auto",
    **settings: Any,
) -> list[Tree]:
    """`decompose` for many images, (features, grid) each, over threads: trees in the images' order.

    Raises what `decompose` raises, for the first image found at fault.
    """
    if threads < 1:
        raise UsageError(f"{threads} threads: at least one is needed")
    chosen = DecompositionSettings(**settings)
    trees: list[Tree | None] = [None] * len(images)
    by_count: dict[int, list[int]] = {}
    arrays = [checked(features, grid, center) for features, grid in images]
    for row, features in enumerate(arrays):
        by_count.setdefault(len(features), []).append(row)
    for rows in by_count.values():  # images of one size share their settings, the energy threshold's rank among them
        arguments = arguments_of(arrays[rows[0]], center, chosen)
        grids = [images[row][1] for row in rows]
        try:
            answers = _decomposition.decompose_batch(
                [arrays[row] for row in rows], [g[0] for g in grids], [g[1] for g in grids], arguments, threads, isa
            )
        except _decomposition.NotFiniteError as error:
            raise BadImageError(str(error)) from None
        for row, answer in zip(rows, answers, strict=True):
            trees[row] = Tree(*answer)
    return [tree for tree in trees if tree is not None]


def decompose_float(
    features: np.ndarray,
    grid: tuple[int, int],
    *,
    center: np.ndarray | None = None,
    released: bool = False,
    shuffle_seed: int | None = None,
    seeds: np.ndarray | None = None,
    isa: str = "auto",
    **settings: Any,
) -> Tree:
    """See edge_claid.ops.reference.released_decomposition.decompose_float; shuffle_seed below 2^32."""
    chosen = DecompositionSettings(**settings)
    features = checked(features, grid, center)
    arguments = arguments_of(features, center, chosen)
    pairs = None if seeds is None else np.ascontiguousarray(seeds, np.int32)
    try:
        answer = _decomposition.decompose_float(
            features, *grid, arguments, released=released, shuffle_seed=shuffle_seed, seeds=pairs, isa=isa
        )
    except _decomposition.NotFiniteError as error:
        raise BadImageError(str(error)) from None
    except IndexError as error:
        raise UsageError(str(error)) from None
    return Tree(*answer)


def checked(features: np.ndarray, grid: tuple[int, int], center: np.ndarray | None) -> np.ndarray:
    """The tokens as the module takes them. Raises UsageError as the reference does."""
    check_request(features, grid, center)
    return np.ascontiguousarray(features, np.float32)


def arguments_of(
    features: np.ndarray, center: np.ndarray | None, settings: DecompositionSettings
) -> _decomposition.Arguments:
    """Settings as the module takes them."""
    return _decomposition.Arguments(
        center=None if center is None else np.ascontiguousarray(center, np.float32),
        alpha=settings.alpha,
        tau1=settings.tau1,
        energy_rank=high_energy_rank(len(features), settings.energy_share),
        smallest=settings.smallest,
        max_nodes=settings.max_nodes,
    )
