"""Regions by normalised cuts of the token graph, the way of TokenCut (one cut) and MaskCut (several), to compare with.

Written from the papers: Shi and Malik, "Normalized cuts and image segmentation", TPAMI 2000; Wang et al.,
"Self-supervised transformers for unsupervised object discovery using normalized cut" (TokenCut), CVPR 2022; Wang et
al., "Cut and learn for unsupervised object detection and instance segmentation" (MaskCut), CVPR 2023. Their
conditional random field and bilateral solver, which sharpen masks by the pixels, are left out: the same tokens and
nothing else are compared.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.ndimage import label
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

TAU = 0.2  # TokenCut §4.1; MaskCut takes 0.15
WEAK = 1e-5  # both papers' weight of tokens that are not alike
MOST_CORNERS = 2  # MaskCut §3.1: a foreground holds at most two corners of the picture
SMALLEST_SHARE = 0.01  # MaskCut's program: a later mask of less than this share of the tokens is none


def normalised_cuts(
    features: np.ndarray, grid: tuple[int, int], cuts: int = 1, tau: float = TAU, dense: bool = False
) -> list[np.ndarray]:
    """Cut foregrounds off the graph of tokens, one after the other.

    features: (N, D) float32, any norm; grid: (rows, columns), N = rows * columns, row-major; cuts: how many at most;
    tau: tokens are connected where their cosine is above it; dense: compute as the published programs do, by the dense
    solver and with the tokens of earlier masks left in the graph, connected to nothing.
    Returns at most ``cuts`` masks, (rows, columns) bool, each one 8-connected part; they do not overlap. MaskCut sets
    the features of earlier masks to zero; here those tokens leave the graph, which is what that is for.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    free = np.arange(len(unit))
    masks: list[np.ndarray] = []
    for cut in range(cuts):
        if len(free) < 3:
            break
        if dense:
            left = np.isin(np.arange(len(unit)), free)
            vector = dense_second_eigenvector(affinity(unit * left[:, None], tau))[free]
        else:
            vector = second_eigenvector(affinity(unit[free], tau))
        mask = _foreground(vector, free, grid, most_corners=MOST_CORNERS if cuts > 1 else 4)
        if not mask.any() or (cut > 0 and mask.mean() <= SMALLEST_SHARE):
            break
        masks.append(mask)
        free = free[~mask.ravel()[free]]
    return masks


def affinity(unit: np.ndarray, tau: float) -> np.ndarray:
    """(N, D) unit tokens to the (N, N) float64 weights, 1 above tau, else the weak weight."""
    return np.where(unit @ unit.T > tau, 1.0, WEAK)


def second_eigenvector(weights: np.ndarray) -> np.ndarray:
    """The second smallest solution y of (D - W) y = λ D y, (N,) float64; its sign is arbitrary.

    Found as the second largest eigenvector of D^-½ W D^-½, whose largest is known: D^½ 1. Taking that one out leaves
    a single eigenpair to iterate for, which takes a hundredth of the time of the dense solution; where the
    iteration does not settle the dense solution is taken.
    """
    root = np.sqrt(weights.sum(axis=1))
    known = root / np.linalg.norm(root)

    def apply(vector: np.ndarray) -> np.ndarray:
        vector = vector.ravel() / root
        product = (weights @ vector) / root
        return product - known * (known @ (root * vector))

    operator = LinearOperator(weights.shape, matvec=apply, dtype=np.float64)
    start = np.cos(np.arange(len(weights)) * 0.7)
    try:
        _, vectors = eigsh(operator, k=1, which="LA", v0=start - known * (known @ start), tol=1e-8)
        return vectors[:, 0] / root
    except ArpackError:
        return dense_second_eigenvector(weights)


def dense_second_eigenvector(weights: np.ndarray) -> np.ndarray:
    """As second_eigenvector, by the dense solver."""
    degrees = np.diag(weights.sum(axis=1))
    return eigh(degrees - weights, degrees, subset_by_index=[1, 1])[1][:, 0]


def _foreground(vector: np.ndarray, free: np.ndarray, grid: tuple[int, int], most_corners: int) -> np.ndarray:
    """The part of the bipartition (at the mean) that holds the largest entry, as its connected mask on the grid."""
    if vector[np.argmax(np.abs(vector))] < 0:
        vector = -vector
    mask = _on_grid(vector > vector.mean(), free, grid)
    if sum(int(mask[row, column]) for row in (0, -1) for column in (0, -1)) > most_corners:
        vector = -vector
        mask = _on_grid(vector > vector.mean(), free, grid)
    parts, _ = label(mask, structure=np.ones((3, 3)))
    return mask & (parts == parts.ravel()[free[np.argmax(vector)]])


def _on_grid(members: np.ndarray, free: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(grid, bool)
    mask.ravel()[free[members]] = True
    return mask
