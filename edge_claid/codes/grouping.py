"""Order of the codewords of a code book: near ones are numbered so that a scan can treat them as one at first.

A scan first looks a codeword up without bits 4 and 5 of its number, in a table of 64 entries that holds the least of
the four codewords that differ in these bits only: a bound that is always safe, and tight where the four lie near.
"""

from __future__ import annotations

import numpy as np

GROUPS = 64  # of four codewords each; edge_claid/ops/cpu/scan/kernel.h knows them too
MOST_ROUNDS = 50


def grouped_centroids(centroids: np.ndarray) -> np.ndarray:
    """The codewords (M, 256, d) float32 in an order in which numbers that differ in bits 4 and 5 only are near."""
    return np.stack([centroids[m, codeword_order(subspace)] for m, subspace in enumerate(centroids)])


def codeword_order(codewords: np.ndarray) -> np.ndarray:
    """Permutation (256,) int64 of codewords (256, d): order[i] is the codeword that becomes number i.

    Recursive halving along the widest direction gives equal groups; then pairs of codewords change places while that
    lowers the sum of squared distances inside the groups.
    """
    codewords = codewords.astype(np.float64)
    group = _halved(codewords)
    squares = (codewords**2).sum(axis=1)
    distances = squares[:, None] + squares - 2.0 * codewords @ codewords.T
    for _ in range(MOST_ROUNDS):
        if not _exchange(group, distances):
            break
    return np.argsort(group, kind="stable").reshape(4, 16, 4).transpose(0, 2, 1).ravel()


def _halved(codewords: np.ndarray) -> np.ndarray:
    """Group (K,) of every codeword after halving all parts until there are GROUPS of them."""
    parts = [np.arange(len(codewords))]
    while len(parts) < GROUPS:
        halves = []
        for part in parts:
            centred = codewords[part] - codewords[part].mean(axis=0)
            axis = centred[(centred**2).sum(axis=1).argmax()]
            halves += np.split(part[np.argsort(centred @ axis, kind="stable")], 2)
        parts = halves
    group = np.empty(len(codewords), np.int64)
    for number, part in enumerate(parts):
        group[part] = number
    return group


def _exchange(group: np.ndarray, distances: np.ndarray) -> bool:
    """Exchange pairs of codewords between groups, the best first and each group once; False where none gains."""
    to_group = distances[:, np.argsort(group)].reshape(len(group), GROUPS, -1).sum(axis=2)
    own = to_group[np.arange(len(group)), group]
    crossed = to_group[:, group]
    change = crossed - own[:, None] - distances
    change = change + change.T
    change[group[:, None] == group] = 0.0
    least = -1e-9 * distances.mean()
    best = change.argmin(axis=1)
    gains = change[np.arange(len(group)), best]
    gaining = np.flatnonzero(gains < least)
    touched: set[int] = set()
    for first in gaining[np.argsort(gains[gaining], kind="stable")].tolist():
        second = int(best[first])
        pair = {int(group[first]), int(group[second])}
        if touched.isdisjoint(pair):
            group[first], group[second] = group[second], group[first]
            touched |= pair
    return bool(touched)
