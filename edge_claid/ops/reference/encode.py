"""Product quantisation of descriptors: rotation, distances to the codewords, nearest codewords.

Every sum runs over the dimensions in ascending order in float32, each product and each sum rounded once, so that all
backends give the same bits.
"""

from __future__ import annotations

import numpy as np


def rotate(values: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """values (N, D) float32 @ rotation (D, D) float32 -> (N, D) float32."""
    rotated = np.zeros((len(values), rotation.shape[1]), np.float32)
    for dimension in range(rotation.shape[0]):
        rotated += values[:, dimension, None] * rotation[dimension]
    return rotated


def project(values: np.ndarray, mean: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """normalise((values - mean) @ matrix), every sum over dimensions ascending in float32.

    values: (N, D) float32. mean: (D,). matrix: (D, d). Returns (N, d) float32; a zero row stays zero.
    """
    product = rotate(values - mean, matrix)
    squares = np.zeros(len(values), np.float32)
    for column in product.T:
        squares += column * column
    return product / np.maximum(np.sqrt(squares), np.float32(1e-12))[:, None]


def lookup_tables(values: np.ndarray, codewords: np.ndarray) -> np.ndarray:
    """Squared L2 distance of each subvector to each codeword of its subspace.

    values: (N, D) float32. codewords: (M, D / M, 256) float32, codewords[m, d, c] is dimension d of codeword c of
    subspace m. Returns (N, M, 256) float32.
    """
    subspaces, width, count = codewords.shape
    subvectors = values.reshape(len(values), subspaces, width)
    tables = np.zeros((len(values), subspaces, count), np.float32)
    for dimension in range(width):
        difference = subvectors[:, :, dimension, None] - codewords[None, :, dimension]
        tables += difference * difference
    return tables


def nearest_codewords(values: np.ndarray, codewords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest codeword of each subvector; of equally near ones the lowest.

    values: (N, D) float32. codewords: (M, D / M, 256) float32.
    Returns codes (N, M) uint8 and the squared distances (N, M) float32 to those codewords.
    """
    tables = lookup_tables(values, codewords)
    codes = tables.argmin(axis=2)
    return codes.astype(np.uint8), np.take_along_axis(tables, codes[:, :, None], axis=2)[:, :, 0]


def codeword_sums(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the subvectors that share a codeword, in row order.

    values: (N, D) float32. codes: (N, M) uint8. Returns sums (M, 256, D / M) float64 and counts (M, 256) int64.
    """
    rows, subspaces = codes.shape
    subvectors = values.reshape(rows, subspaces, -1)
    sums = np.zeros((subspaces, 256, subvectors.shape[2]), np.float64)
    counts = np.zeros((subspaces, 256), np.int64)
    for subspace in range(subspaces):
        np.add.at(sums[subspace], codes[:, subspace], subvectors[:, subspace])
        counts[subspace] = np.bincount(codes[:, subspace], minlength=256)
    return sums, counts
