"""The decomposition as one writes it down first: a Python loop that visits token by token. A peer for timing."""

from __future__ import annotations

import random

import numpy as np
from scipy.ndimage import label

EIGHT = np.ones((3, 3))
SWEEPS = 501


def regions_by_loop(
    features: np.ndarray, grid: tuple[int, int], alpha: float = 0.2, tau1: float = 0.97, tau2: float = 0.1
) -> list[np.ndarray]:
    """Regions of (N, D) float32 tokens as (n,) token indices, the released program's rules (papers/claid.txt §III)."""
    energy = np.abs(features).sum(axis=1)
    high = energy >= np.sort(energy)[7 * len(energy) // 10]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    connected = unit @ unit.T > alpha
    shuffle = random.Random(0).shuffle
    regions: list[np.ndarray] = []
    level = [np.arange(len(unit))]
    while level:
        parts = [part for node in level for part in parted(unit, connected, node, grid, shuffle)]
        regions += [part for part in parts if high[part].mean() > tau2]
        level = [part for part in parts if not compact(connected, part, tau1)]
    return regions


def compact(connected: np.ndarray, node: np.ndarray, tau1: float) -> bool:
    return connected[np.ix_(node, node)].sum() / (len(node) * (len(node) - 1)) >= tau1


def parted(unit, connected, node, grid, shuffle, smallest: int = 15) -> list[np.ndarray]:
    """8-connected components of both halves of a node; none where it does not part."""
    inside = connected[np.ix_(node, node)]
    degrees = inside.sum(axis=1)
    second = inside[degrees.argmax()] & ~inside[degrees.argmin()]
    move_tokens(unit[node], second, shuffle)
    if second.all() or not second.any():
        return []
    parts = []
    for half in (node[~second], node[second]):
        mask = np.zeros(grid[0] * grid[1], bool)
        mask[half] = True
        labels, count = label(mask.reshape(grid), EIGHT)
        found = [np.flatnonzero(labels.ravel() == number + 1) for number in range(count)]
        parts += [part for part in found if len(part) >= smallest]
    return parts


def move_tokens(tokens: np.ndarray, second: np.ndarray, shuffle) -> None:
    """k-sums with k = 2: `second` (n,) bool is changed in place until no token moves."""
    sums = [tokens[~second].sum(axis=0), tokens[second].sum(axis=0)]
    counts = [int((~second).sum()), int(second.sum())]
    for _ in range(SWEEPS):
        order = list(range(len(tokens)))
        shuffle(order)
        moved = False
        for i in order:
            t = tokens[i] @ (sums[0] - sums[1])
            balance = counts[0] - counts[1]
            if second[i] != (t < balance - 0.5 if not second[i] else t < balance + 0.5):
                old, new = int(second[i]), int(not second[i])
                sums[old], sums[new] = sums[old] - tokens[i], sums[new] + tokens[i]
                counts[old], counts[new] = counts[old] - 1, counts[new] + 1
                second[i], moved = bool(new), True
        if not moved:
            return
