"""Whitening projections of descriptors, fitted on a gallery; part of its code space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_claid.errors import UsageError

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
        """(R, D) descriptors to (R, d) float32 of unit L2 norm. Raises UsageError for another width."""
        values = np.asarray(values, np.float32)
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise UsageError(f"descriptors are {values.shape}; this code space takes (R, {len(self.mean)})")
        projected = (values - self.mean) @ self.matrix
        return normalised(projected)


def normalised(values: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm; a zero row stays zero. (R, D) float32."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def fit_whitening(
    values: np.ndarray, width: int, *, power: float, within: np.ndarray | None = None, shrinkage: float = 0.3
) -> Projection:
    """Fit a whitening on descriptors.

    values: (N, D) float, rows of unit norm. width: d, dimensions kept. power: the spectrum is divided by
    eigenvalue ** (power / 2): 1 whitens fully, 0.5 takes the square root of the spectrum, 0 is plain PCA.
    within: (D, D) scatter of descriptors of one region seen in several views; it is whitened first, shrunk towards
    its mean eigenvalue by `shrinkage`, so that directions in which one thing varies weigh little.
    Raises UsageError for values that are not finite or fewer rows than `width`.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise UsageError("descriptors hold NaN or infinite values; enrol the pictures again")
    if len(values) < width:
        raise UsageError(f"a projection to {width} dimensions needs at least {width} regions, there are {len(values)}")
    mean = values.mean(axis=0)
    centred = values - mean
    first = np.eye(values.shape[1]) if within is None else inverse_root(within, shrinkage)
    centred = centred @ first
    spectrum, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    order = np.argsort(spectrum)[::-1][:width]
    kept = np.maximum(spectrum[order], spectrum.max() * 1e-9)
    matrix = first @ (vectors[:, order] / kept ** (power / 2.0))
    # One scale for the whole matrix keeps projected values near one; directions are not changed by it.
    matrix /= np.sqrt((centred @ (vectors[:, order] / kept ** (power / 2.0))).var(axis=0).mean())
    return Projection(mean.astype(np.float32), matrix.astype(np.float32))


def inverse_root(scatter: np.ndarray, shrinkage: float) -> np.ndarray:
    """Inverse square root of a scatter matrix (D, D) shrunk by `shrinkage` of its mean eigenvalue."""
    spectrum, vectors = np.linalg.eigh(np.asarray(scatter, np.float64))
    spectrum = np.maximum(spectrum, 0.0) + shrinkage * max(spectrum.mean(), 1e-12)
    return (vectors / np.sqrt(spectrum)) @ vectors.T


def small_projection(values: np.ndarray, power: float = 0.5) -> Projection:
    """A projection for a gallery that is too small for a code space.

    values: (N, D), unit norm. The few directions that N regions span are whitened, and no more of them than a quarter
    of N, for the rest is noise; under 64 regions only the mean is taken off.
    """
    values = np.asarray(values[:: 1 + len(values) // MOST_ROWS], np.float32)
    if len(values) < 64:
        mean = values.mean(axis=0) if len(values) > 1 else np.zeros(values.shape[1], np.float32)
        return Projection(mean, np.eye(values.shape[1], dtype=np.float32))
    return fit_whitening(values, min(256, len(values) // 4), power=power)
