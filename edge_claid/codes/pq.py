"""Training of a product quantiser: k-means in every subspace.

Source: Jégou et al., Product Quantization for Nearest Neighbor Search, 2011.
"""

from __future__ import annotations

import os

import numpy as np

from edge_claid.codes.codebook import CODEWORDS, CodeBook, checked_values
from edge_claid.codes.grouping import grouped_centroids
from edge_claid.errors import UsageError
from edge_claid.ops.cpu import _encode

# faiss's rule: more rows than this for each codeword no longer change the codewords that matter.
ROWS_PER_CODEWORD = 256
ITERATIONS = 25


def train_pq(values: np.ndarray, subspaces: int, seed: int = 0, iterations: int = ITERATIONS) -> CodeBook:
    """Train a plain product quantiser.

    values: (N, D) float32 descriptors, N >= 256. subspaces: M, divides D. iterations: of k-means.
    The same values and seed give the same code book.
    Raises UsageError for too few rows, NaN, or an M that does not divide D.
    """
    values = training_rows(values, subspaces, seed)
    centroids = first_centroids(values, subspaces, seed)
    return CodeBook(None, grouped_centroids(refine_centroids(values, centroids, iterations)))


def training_rows(values: np.ndarray, subspaces: int, seed: int) -> np.ndarray:
    """The rows to train on: all, or a random choice of ROWS_PER_CODEWORD for each codeword. (n, D) float32."""
    values = checked_values(values)
    rows, width = values.shape
    if subspaces < 1 or width % subspaces:
        raise UsageError(f"{subspaces} subspaces do not divide {width} dimensions; choose a divisor of {width}")
    if rows < CODEWORDS:
        raise UsageError(f"a code book needs at least {CODEWORDS} regions to train on, there are {rows}; enrol more")
    most = ROWS_PER_CODEWORD * CODEWORDS
    if rows <= most:
        return values
    return values[np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))]


def first_centroids(values: np.ndarray, subspaces: int, seed: int) -> np.ndarray:
    """256 different rows as the first codewords: (M, 256, D / M) float32."""
    rows = np.random.default_rng(seed + 1).choice(len(values), CODEWORDS, replace=False)
    return np.ascontiguousarray(values[rows].reshape(CODEWORDS, subspaces, -1).transpose(1, 0, 2))


def refine_centroids(values: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Lloyd's k-means in every subspace from the given codewords: (M, 256, D / M) float32."""
    for _ in range(iterations):
        codes, distances = nearest(values, centroids)
        centroids = moved_centroids(values, codes, distances)
    return centroids


def nearest(values: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, M) uint8 and squared distances (N, M) float32 of rotated values (N, D), on all cores."""
    codewords = np.ascontiguousarray(centroids.transpose(0, 2, 1))
    return _encode.nearest_codewords(values, codewords, threads=os.cpu_count() or 1)


def moved_centroids(values: np.ndarray, codes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Mean of each codeword's subvectors; a codeword without any takes the subvector that is served worst."""
    sums, counts = _encode.codeword_sums(values, codes)
    centroids = (sums / np.maximum(counts, 1)[:, :, None]).astype(np.float32)
    subvectors = values.reshape(len(values), codes.shape[1], -1)
    for subspace in np.flatnonzero((counts == 0).any(axis=1)):
        empty = np.flatnonzero(counts[subspace] == 0)
        worst = np.argsort(-distances[:, subspace], kind="stable")[: len(empty)]
        centroids[subspace, empty] = subvectors[worst, subspace]
    return centroids
