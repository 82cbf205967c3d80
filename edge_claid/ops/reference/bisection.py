"""Repeated bisecting of a set of tokens (CLAID, papers/claid.txt §III, Algorithm 1) given who is like whom.

The same code serves integer and float affinities; what is exact with integers is as exact as the floats are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_claid.ops.reference.region_tree import Tree


@dataclass(frozen=True)
class Affinity:
    """gram: (N, N), products of unit tokens with `unit` on the diagonal. connected: (N, N) bool, diagonal False."""

    gram: np.ndarray
    unit: float
    connected: np.ndarray


@dataclass(frozen=True)
class Rules:
    """When to cut, what to drop, when a token moves.

    dead_zone: in units; a token moves only when the gain exceeds it (0: the paper; 0.5: the released program, which
    takes a token's own norm off its own half's cost). diagonal: count a token as connected to itself (the released
    program). sweeps: most sweeps of one cut.
    """

    tau1: float
    smallest: int
    max_nodes: int
    sweeps: int
    dead_zone: float = 0.0
    diagonal: bool = False


Sweep = Callable[[int], np.ndarray]  # number of tokens -> order of visits of the next sweep
Seeds = Callable[[], tuple[int, int]]  # tokens of lowest and highest degree of the next cut


def grow_tree(
    affinity: Affinity,
    high: np.ndarray,
    grid: tuple[int, int],
    rules: Rules,
    order: np.ndarray,
    sweep: Sweep | None = None,
    seeds: Seeds | None = None,
) -> Tree:
    """Bisect level by level. high: (N,) bool. order: (N,) the tokens in the order in which a node lists them.

    sweep: gives each sweep's order over the node's list; None goes through it from front to back.
    seeds: gives each cut's tokens of lowest and highest degree; None takes the first in the node's list.
    """
    count = len(order)
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    nodes, parents, depths = [np.arange(count)], [-1], [0]
    edges: list[int] = []
    for node in nodes:  # grows while it is walked: breadth first
        row = len(edges)
        degrees = affinity.connected[np.ix_(node, node)].sum(axis=1)
        edges.append(int(degrees.sum()) // 2)
        if not is_cut(row, len(node), edges[row], rules):
            continue
        listed = node[np.argsort(rank[node])]
        lowest, highest = seeds() if seeds else extreme_degrees(affinity, listed)
        labels = bisect(affinity, listed, lowest, highest, rules, sweep)
        for half in (0, 1):
            members = listed[labels == half]
            if len(members) == len(node):  # nothing was parted
                break
            for part in components(members, grid, rules.smallest)[: rules.max_nodes - len(nodes)]:
                nodes.append(part)
                parents.append(row)
                depths.append(depths[row] + 1)
    return tree_from_nodes(nodes, parents, depths, edges, high)


def is_cut(row: int, count: int, edges: int, rules: Rules) -> bool:
    """The root always, unless it is too small; others while their connectivity is below tau1."""
    if row == 0:
        return count >= max(2, rules.smallest)
    pairs = 2.0 * edges + (count if rules.diagonal else 0)
    return count > 1 and pairs < rules.tau1 * (float(count) * (count - 1))


def extreme_degrees(affinity: Affinity, listed: np.ndarray) -> tuple[int, int]:
    """Tokens with the fewest and the most connections inside the node; of equals the first in the list."""
    degrees = affinity.connected[np.ix_(listed, listed)].sum(axis=1)
    return int(listed[np.argmin(degrees)]), int(listed[np.argmax(degrees)])


def bisect(
    affinity: Affinity, listed: np.ndarray, lowest: int, highest: int, rules: Rules, sweep: Sweep | None
) -> np.ndarray:
    """Two halves of small summed squared distance (k-sums, k = 2): labels (n,) 0 or 1.

    With t_i = x_i · (D0 - D1), D the halves' vector sums, moving i from 0 to 1 lowers the sum of pairwise squared
    distances inside the halves by 2 (n0 - n1 - t_i) units, so only t is kept and a move changes it by one Gram row.
    """
    gram = affinity.gram[np.ix_(listed, listed)]
    wide = np.float64 if np.issubdtype(gram.dtype, np.floating) else np.int64
    second = start_halves(affinity, listed, lowest, highest)
    sides = np.where(second, -1, 1)  # +1 in half 0, -1 in half 1
    t = gram[~second].sum(axis=0, dtype=wide) - gram[second].sum(axis=0, dtype=wide)
    for _ in range(rules.sweeps):
        visits = sweep(len(listed)) if sweep else np.arange(len(listed))
        moved, start = False, 0
        while (mover := next_mover(t[visits[start:]], sides[visits[start:]], affinity.unit, sides, rules)) is not None:
            token = visits[start + mover]
            t -= 2 * sides[token] * gram[token].astype(wide)
            sides[token] = -sides[token]
            start, moved = start + mover + 1, True
        if not moved:
            break
    return (1 - sides) // 2


def start_halves(affinity: Affinity, listed: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """Who starts in half 1: neighbours of the best connected token that are not the least connected one's (n,) bool."""
    near_highest = affinity.connected[highest, listed] | (listed == highest)
    near_lowest = affinity.connected[lowest, listed] | (listed == lowest)
    return near_highest & ~near_lowest


def next_mover(t: np.ndarray, sides: np.ndarray, unit: float, all_sides: np.ndarray, rules: Rules) -> int | None:
    """First position whose token is nearer to the other half, or None."""
    balance = unit * float(all_sides.sum())  # units times n0 - n1
    dead = unit * rules.dead_zone
    back = t >= balance + dead if dead else t > balance
    movers = np.flatnonzero(np.where(sides > 0, t < balance - dead, back))
    return int(movers[0]) if len(movers) else None


def components(members: np.ndarray, grid: tuple[int, int], smallest: int) -> list[np.ndarray]:
    """8-connected components of at least `smallest` tokens, ascending tokens each, in raster order of the first."""
    rows, columns = grid
    left = set(members.tolist())
    found = []
    for first in sorted(left):
        if first not in left:
            continue
        left.discard(first)
        part = [first]
        for token in part:  # grows while it is walked
            y, x = divmod(token, columns)
            for v in range(max(0, y - 1), min(rows, y + 2)):
                for u in range(max(0, x - 1), min(columns, x + 2)):
                    if v * columns + u in left:
                        left.discard(v * columns + u)
                        part.append(v * columns + u)
        if len(part) >= smallest:
            found.append(np.sort(np.array(part)))
    return found


def tree_from_nodes(
    nodes: list[np.ndarray], parents: list[int], depths: list[int], edges: list[int], high: np.ndarray
) -> Tree:
    """Pack token lists into the compact arrays of a Tree."""
    masks = np.zeros((len(nodes), len(high)), bool)
    for row, node in enumerate(nodes):
        masks[row, node] = True
    return Tree(
        masks=np.packbits(masks, axis=1, bitorder="little"),
        parents=np.array(parents, np.int32),
        depths=np.array(depths, np.int32),
        areas=np.array([len(node) for node in nodes], np.int32),
        high=(masks & high).sum(axis=1).astype(np.int32),
        edges=np.array(edges, np.int64),
    )


def released_sweep(seed: int) -> Sweep:
    """The released program's order of visits: a fresh list 0..n-1 every sweep, shuffled by Python's generator."""
    generator = random.Random(seed)

    def shuffled(count: int) -> np.ndarray:
        visits = list(range(count))
        generator.shuffle(visits)
        return np.array(visits)

    return shuffled
