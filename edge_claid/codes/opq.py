"""Training of an optimised product quantiser: rotation and codewords in turn.

Source: Ge et al., Optimized Product Quantization, 2014: parametric start (§4), non-parametric alternation (§3.1).
"""

from __future__ import annotations

import numpy as np

from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.grouping import grouped_centroids
from edge_claid.codes.pq import (
    first_centroids,
    moved_centroids,
    nearest,
    refine_centroids,
    training_rows,
)
from edge_claid.errors import UsageError

# Thirty rotations of one round of k-means each lose less, in as long, than fewer of two rounds, on the rows trained on
# and on others (tools/bench_opq.py); ten final rounds end where twenty-five do.
ROTATIONS = 30
FINAL_ROUNDS = 10


def train_opq(
    values: np.ndarray,
    subspaces: int,
    iterations: int = ROTATIONS,
    seed: int = 0,
    final_rounds: int = FINAL_ROUNDS,
    start: np.ndarray | None = None,
) -> CodeBook:
    """Train an optimised product quantiser.

    values: (N, D) float32 descriptors, N >= 256. subspaces: M, divides D. iterations: rotations.
    final_rounds: of k-means after the last rotation. start: (D, D) orthogonal, the rotation to begin from; the
    parametric one where none is given. The same values and seed give the same code book.
    Raises UsageError for too few rows, NaN, an M that does not divide D, or a start of another shape.
    """
    values = training_rows(values, subspaces, seed)
    if start is not None and start.shape != (values.shape[1],) * 2:
        raise UsageError(f"the rotation to start from is {start.shape}; descriptors have {values.shape[1]} dimensions")
    rotation = parametric_rotation(values, subspaces) if start is None else np.ascontiguousarray(start, np.float32)
    rotated = values @ rotation
    centroids = first_centroids(rotated, subspaces, seed)
    for _ in range(iterations):
        codes, distances = nearest(rotated, centroids)
        centroids = moved_centroids(rotated, codes, distances)
        rotation = procrustes_rotation(values, centroids[np.arange(subspaces), codes].reshape(rotated.shape))
        rotated = values @ rotation
    return CodeBook(rotation, grouped_centroids(refine_centroids(rotated, centroids, final_rounds)))


def procrustes_rotation(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Orthogonal R (D, D) float32 that minimises |values @ R - targets|."""
    left, _, right = np.linalg.svd(values.T @ targets)
    return np.ascontiguousarray(left @ right, np.float32)


def parametric_rotation(values: np.ndarray, subspaces: int) -> np.ndarray:
    """Principal axes dealt out so that the subspaces' products of eigenvalues balance (Ge et al., §4.3).

    values: (N, D) float32. Returns (D, D) float32.
    """
    width = values.shape[1]
    spectrum, vectors = np.linalg.eigh(np.cov(values.astype(np.float64), rowvar=False).reshape(width, width))
    # Beyond the rank of the data the logarithm would drown the rest.
    logarithms = np.log(np.maximum(spectrum, spectrum.max() * 1e-6 + 1e-30))
    logarithms -= logarithms.min() - 1.0
    members: list[list[int]] = [[] for _ in range(subspaces)]
    weights = np.zeros(subspaces)
    for axis in np.argsort(spectrum)[::-1]:
        chosen = int(np.argmin(weights))
        members[chosen].append(int(axis))
        weights[chosen] = np.inf if len(members[chosen]) == width // subspaces else weights[chosen] + logarithms[axis]
    return np.ascontiguousarray(vectors[:, np.concatenate(members)], np.float32)
