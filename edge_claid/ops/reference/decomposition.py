"""Tokens to a tree of regions by hierarchical bisecting (CLAID, papers/claid.txt §III), in integers.

Every step is fixed to the last bit, so that other backends can be held to identity: the only floating-point work is
the norm, the energy and the quantisation, whose summation order (32 lanes, folded by halves) and roundings (IEEE
single, no fused multiply-add) are part of the definition. All that follows is integer sums and comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_claid.errors import BadImageError, UsageError
from edge_claid.ops.reference.bisection import Affinity, Rules, grow_tree
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings
from edge_claid.ops.reference.region_tree import Tree

LANES = 32  # partial sums a token; a CUDA warp, two AVX-512 registers
MAX_TOKENS = 16384  # keeps every sum of products inside int32
MAX_WIDTH = 65536
PEAK = 127  # largest quantised value; -128 is left out so that products stay symmetric
SWEEPS = 500  # sweeps of one cut before it is taken as it stands (the released program's figure is 501)


@dataclass(frozen=True)
class QuantisedTokens:
    """Unit tokens as integers with one scale an image.

    values: (N, D) int8. unit: the square of the scale, so values[i] @ values[j] / unit is the cosine, float64.
    energy: (N,) float32, L1 norms of the raw tokens.
    """

    values: np.ndarray
    unit: float
    energy: np.ndarray


def visiting_order(count: int) -> np.ndarray:
    """Tokens in the order in which a sweep visits them: (N,) int64, a permutation.

    Sorted by a mix of the token's index that is a bijection of 32 bits, so that there are no ties. A node visits its
    own tokens in this order: which permutation that is depends on the node's content alone.
    """
    key: np.ndarray = (np.arange(1, count + 1, dtype=np.uint64) * 0x9E3779B9 & 0xFFFFFFFF).astype(np.uint32)
    key ^= key >> 16
    key *= np.uint32(0x7FEB352D)
    key ^= key >> 15
    key *= np.uint32(0x846CA68B)
    key ^= key >> 16
    return np.argsort(key, kind="stable")


def lane_sums(values: np.ndarray) -> np.ndarray:
    """Row sums in the fixed order: (N, D) float32, D a multiple of 32 -> (N,) float32.

    Lane l adds columns l, l + 32, l + 64, ... in turn; then lanes are folded by halves: 16, 8, 4, 2, 1.
    """
    lanes: np.ndarray = np.zeros((len(values), LANES), np.float32)
    for start in range(0, values.shape[1], LANES):
        lanes += values[:, start : start + LANES]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def check_request(features: np.ndarray, grid: tuple[int, int], center: np.ndarray | None) -> None:
    """Raises UsageError where shapes do not fit each other or the op's bounds."""
    if features.ndim != 2 or features.shape[0] != grid[0] * grid[1] or features.shape[0] == 0:
        raise UsageError(f"tokens of shape {features.shape} do not fill a grid of {grid[0]} x {grid[1]}")
    count, width = features.shape
    if count > MAX_TOKENS or not 0 < width <= MAX_WIDTH:
        raise UsageError(f"{count} tokens of width {width}: at most {MAX_TOKENS} tokens of 1 to {MAX_WIDTH} values")
    if center is not None and center.shape != (width,):
        raise UsageError(f"the mean token has shape {center.shape}, the tokens have width {width}")


def quantised_tokens(features: np.ndarray, center: np.ndarray | None) -> QuantisedTokens:
    """Centre, normalise, quantise. features: (N, D) float32, center: (D,) float32 or None.

    Raises BadImageError where a token is not finite or its norm overflows. A token that is zero after centring
    becomes the zero vector: it is connected to nothing.
    """
    pad = -features.shape[1] % LANES
    raw = np.pad(np.asarray(features, np.float32), ((0, 0), (0, pad)))
    with np.errstate(all="ignore"):
        x = raw if center is None else raw - np.pad(np.asarray(center, np.float32), (0, pad))
        energy = lane_sums(np.abs(raw))
        squares = lane_sums(x * x)
        if not (np.isfinite(energy).all() and np.isfinite(squares).all()):
            raise BadImageError("tokens are not finite, or so large that their norm is not: check the network's output")
        inverse = np.where(squares > 0, np.float32(1) / np.sqrt(squares), np.float32(0))
        peak = np.max(np.abs(x).max(axis=1) * inverse)
        scale = np.float32(PEAK) / peak if peak > 0 else np.float32(0)
        rounded = np.rint((x * inverse[:, None]) * scale)
    values = np.clip(rounded, -PEAK, PEAK).astype(np.int8)[:, : features.shape[1]]
    return QuantisedTokens(values, float(scale) * float(scale), energy)


def high_energy(energy: np.ndarray, share: float) -> np.ndarray:
    """Tokens whose energy reaches the threshold: (N,) bool. The threshold is sorted[(1 - share) N] (CLAID §III-D)."""
    return energy >= np.sort(energy)[high_energy_rank(len(energy), share)]


def high_energy_rank(count: int, share: float) -> int:
    """Index of the threshold in the ascending energies; the small term undoes the rounding of 1 - share."""
    return min(count - 1, int((1.0 - share) * count + 1e-9))


def integer_affinity(tokens: QuantisedTokens, alpha: float) -> Affinity:
    """Gram matrix in 16 bits: products shifted right, rounded half up, until the largest norm fits.

    The diagonal holds the unit, as if every token had norm one: a token is at distance zero from itself.
    """
    values = tokens.values.astype(np.float64)  # products below 2^53: exact whatever the order
    whole = int(tokens.unit)
    largest = max(whole, int((values * values).sum(axis=1).max()))
    shift = max(0, largest.bit_length() - 15)
    half = (1 << shift) >> 1
    gram = np.empty((len(values), len(values)), np.int16)
    for start in range(0, len(values), 1024):
        block = (values[start : start + 1024] @ values.T).astype(np.int64)
        gram[start : start + 1024] = np.minimum((block + half) >> shift, 32767)
    unit = min((whole + half) >> shift, 32767)
    threshold = int(np.clip(np.floor(alpha * tokens.unit / (1 << shift)), -32768, 32767))
    connected = gram > threshold
    np.fill_diagonal(gram, unit)
    np.fill_diagonal(connected, False)
    return Affinity(gram, unit, connected)


def decompose(
    features: np.ndarray, grid: tuple[int, int], *, center: np.ndarray | None = None, **settings: Any
) -> Tree:
    """Cut an image's tokens into a tree of 8-connected regions.

    features: (N, D) float32, raw tokens, row-major on grid = (rows, columns). center: (D,) float32, subtracted before
    norms are taken. settings: fields of DecompositionSettings.
    Start of a cut: the released program's (design of §III-B); move rule: a token moves when its summed squared
    distance to the other half is strictly smaller, so every move lowers the objective and a cut ends.
    Raises UsageError (shapes, bounds) and BadImageError (tokens not finite).
    """
    chosen = DecompositionSettings(**settings)
    check_request(features, grid, center)
    tokens = quantised_tokens(features, center)
    affinity = integer_affinity(tokens, chosen.alpha)
    rules = Rules(chosen.tau1, chosen.smallest, chosen.max_nodes, SWEEPS)
    high = high_energy(tokens.energy, chosen.energy_share)
    return grow_tree(affinity, high, grid, rules, visiting_order(len(features)))
