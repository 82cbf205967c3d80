"""Whitening projections of descriptors, fitted on a gallery; part of its code space."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.cpu import _encode

PART_WIDTH = 256  # directions of a descriptor's part that are kept before the parts are reduced together
MOST_ROWS = 8_000  # regions a small gallery's projection is fitted on at most, so that opening stays quick


@dataclass(frozen=True)
class Projection:
    """x -> normalise((x - mean) @ matrix).

    mean: (D,) float32. matrix: (D, d) float32.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @property
    def width(self) -> int:
        """Length of a projected descriptor."""
        return self.matrix.shape[1]

    def project(self, values: np.ndarray) -> np.ndarray:
        """(R, D) descriptors to (R, d) float32 of unit L2 norm, to the bit the same on every processor.

        A matrix product by a library would sum in the order that suits the machine, and codes would differ with it.
        Raises UsageError for another width.
        """
        values = np.asarray(values, np.float32)
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise UsageError(f"descriptors are {values.shape}; this code space takes (R, {len(self.mean)})")
        rows, matrix = np.ascontiguousarray(values), np.ascontiguousarray(self.matrix)
        return _encode.project(rows, self.mean, matrix, threads=os.cpu_count() or 1)


def normalised(values: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm; a zero row stays zero. (R, D) float32."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def fit_whitening(
    values: np.ndarray,
    width: int,
    *,
    power: float,
    within: np.ndarray | None = None,
    shrinkage: float = 0.3,
    parts: Sequence[int] = (),
) -> Projection:
    """Fit a whitening on descriptors.

    values: (N, D) float, rows of unit norm. width: d, dimensions kept. power: the spectrum is divided by
    eigenvalue ** (power / 2): 1 whitens fully, 0.5 takes the square root of the spectrum, 0 is plain PCA.
    within: (D, D) scatter of descriptors of one region seen in several views; it is whitened first, shrunk towards
    its mean eigenvalue by `shrinkage`, so that directions in which one thing varies weigh little.
    parts: lengths of the descriptor's parts, which come from different maps (none: one part). Each is whitened on its
    own, for the spectrum of one says nothing about another; side by side, each with as much variance as it has of the
    descriptor's norm, they are reduced by a plain PCA.
    Raises UsageError for values that are not finite, fewer rows than `width`, and parts that do not make up D.
    """
    values = np.asarray(values)
    if not np.isfinite(values).all():
        raise UsageError("descriptors hold NaN or infinite values; enrol the pictures again")
    if len(values) < width:
        raise UsageError(f"a projection to {width} dimensions needs at least {width} regions, there are {len(values)}")
    if parts and sum(parts) != values.shape[1]:
        raise UsageError(f"descriptors of {values.shape[1]} dimensions do not have parts of {list(parts)}")
    mean = values.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for rows in _chunks(len(values)):
        centred = np.asarray(values[rows], np.float32) - mean.astype(np.float32)
        covariance += centred.T @ centred
    covariance /= len(values)
    ends = np.cumsum(parts) if len(parts) > 1 else np.array([values.shape[1]])
    blocks = [slice(int(end) - size, int(end)) for end, size in zip(ends, parts or (values.shape[1],), strict=True)]
    if len(blocks) == 1:
        matrix = _whitening(covariance, width, power, within, shrinkage)
    else:
        # Directions beyond a quarter of the regions are noise, which whitening would raise.
        matrix = _reduced(covariance, mean, blocks, width, min(PART_WIDTH, len(values) // 4), power, within, shrinkage)
    # One scale for the whole matrix keeps projected values near one; directions are not changed by it.
    matrix /= np.sqrt((matrix * (covariance @ matrix)).sum(axis=0).mean())
    return Projection(mean.astype(np.float32), matrix.astype(np.float32))


def _chunks(count: int) -> Iterator[slice]:
    """Rows a few thousand at a time: a large gallery's descriptors in float32 at once would fill the memory."""
    return (slice(start, start + 4096) for start in range(0, count, 4096))


def _whitening(
    covariance: np.ndarray, width: int, power: float, within: np.ndarray | None, shrinkage: float
) -> np.ndarray:
    """(D, D) covariance to the (D, at most width) matrix that whitens within, then keeps the leading directions."""
    if within is not None:
        first = inverse_root(within, shrinkage)
        covariance = first @ covariance @ first
    spectrum, vectors = np.linalg.eigh(covariance)
    order = np.argsort(spectrum)[::-1][:width]
    matrix = vectors[:, order] / np.maximum(spectrum[order], spectrum.max() * 1e-9) ** (power / 2.0)
    return matrix if within is None else first @ matrix


def _reduced(
    covariance: np.ndarray,
    mean: np.ndarray,
    blocks: list[slice],
    width: int,
    part_width: int,
    power: float,
    within: np.ndarray | None,
    shrinkage: float,
) -> np.ndarray:
    """The parts whitened one by one, weighted, then reduced to `width` dimensions together: (D, width)."""
    columns = []
    for block in blocks:
        own = np.ascontiguousarray(covariance[block, block])
        seen = None if within is None else np.asarray(within, np.float64)[block, block]
        matrix = _whitening(own, part_width, power, seen, shrinkage)
        norm = np.trace(own) + mean[block] @ mean[block]
        wide = np.zeros((len(covariance), matrix.shape[1]))
        wide[block] = matrix * np.sqrt(norm / (matrix * (own @ matrix)).sum())
        columns.append(wide)
    side_by_side = np.concatenate(columns, axis=1)
    _, vectors = np.linalg.eigh(side_by_side.T @ covariance @ side_by_side)
    return side_by_side @ vectors[:, ::-1][:, :width]


def inverse_root(scatter: np.ndarray, shrinkage: float) -> np.ndarray:
    """Inverse square root of a scatter matrix (D, D) shrunk by `shrinkage` of its mean eigenvalue."""
    spectrum, vectors = np.linalg.eigh(np.asarray(scatter, np.float64))
    spectrum = np.maximum(spectrum, 0.0) + shrinkage * max(spectrum.mean(), 1e-12)
    return (vectors / np.sqrt(spectrum)) @ vectors.T


def small_projection(values: np.ndarray, power: float = 0.5, parts: Sequence[int] = ()) -> Projection:
    """A projection for a gallery that is too small for a code space.

    values: (N, D), unit norm. parts: see fit_whitening. The few directions that N regions span are whitened, and no
    more of them than a quarter of N, for the rest is noise; under 64 regions only the mean is taken off.
    """
    values = np.asarray(values[:: 1 + len(values) // MOST_ROWS], np.float32)
    if len(values) < 64:
        mean = values.mean(axis=0) if len(values) > 1 else np.zeros(values.shape[1], np.float32)
        return Projection(mean, np.eye(values.shape[1], dtype=np.float32))
    return fit_whitening(values, min(256, len(values) // 4), power=power, parts=parts)
