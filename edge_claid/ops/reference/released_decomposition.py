"""The decomposition in floating point, by our rules or by those of the authors' released program.

For tests and comparisons: with the released rules, the released order of visits and its choice among equal degrees, it
gives the regions that the released program gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.reference.bisection import Affinity, Rules, Seeds, grow_tree, released_sweep
from edge_claid.ops.reference.decomposition import (
    SWEEPS,
    check_request,
    high_energy,
    quantised_tokens,
    visiting_order,
)
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings
from edge_claid.ops.reference.region_tree import Tree


def float_affinity(features: np.ndarray, center: np.ndarray | None, alpha: float) -> Affinity:
    """Cosines in double precision, with one on the diagonal."""
    x = features.astype(np.float64) if center is None else features.astype(np.float64) - center
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    x = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    gram = x @ x.T
    connected = gram > alpha
    np.fill_diagonal(gram, 1.0)
    np.fill_diagonal(connected, False)
    return Affinity(gram, 1.0, connected)


def decompose_float(
    features: np.ndarray,
    grid: tuple[int, int],
    *,
    center: np.ndarray | None = None,
    released: bool = False,
    shuffle_seed: int | None = None,
    seeds: np.ndarray | None = None,
    **settings: Any,
) -> Tree:
    """As `decompose`, in floating point.

    released: the authors' dead zone of one half in the move rule, and connectivity with the diagonal included.
    shuffle_seed: visit in the order of Python's `random.seed(shuffle_seed)`, shuffled every sweep; None visits in the
    fixed order of `decompose`. seeds: (cuts, 2) integers, tokens of lowest and highest degree of every cut in turn,
    where equal degrees are to be parted as another program parted them. settings: fields of DecompositionSettings.
    Raises UsageError (shapes, bounds, too few seeds) and BadImageError (tokens not finite).
    """
    chosen = DecompositionSettings(**settings)
    check_request(features, grid, center)
    energy = quantised_tokens(features, center).energy
    dead_zone = 0.5 if released else 0.0
    rules = Rules(chosen.tau1, chosen.smallest, chosen.max_nodes, SWEEPS, dead_zone=dead_zone, diagonal=released)
    sweep = None if shuffle_seed is None else released_sweep(shuffle_seed)
    order = visiting_order(len(features)) if sweep is None else np.arange(len(features))
    return grow_tree(
        float_affinity(features, center, chosen.alpha),
        high_energy(energy, chosen.energy_share),
        grid,
        rules,
        order,
        sweep,
        None if seeds is None else replayed(seeds),
    )


def replayed(seeds: np.ndarray) -> Seeds:
    """The given pairs, one a cut."""
    pairs = iter(seeds.tolist())

    def following() -> tuple[int, int]:
        try:
            lowest, highest = next(pairs)
        except StopIteration:
            raise UsageError(f"only {len(seeds)} pairs of seeds were given, and the tree has more cuts") from None
        return lowest, highest

    return following
