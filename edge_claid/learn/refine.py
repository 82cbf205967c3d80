"""Refinement: features enriched with their like before they are quantised (UDQ, papers/udq.txt §3.4).

The refined features are only what supervision is drawn from; search sees the head's own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_claid.codes.pq import first_centroids, nearest, refine_centroids
from edge_claid.errors import UsageError

# How many of its like each feature is fused with (§4.3.3).
BFR_NEIGHBOURS = 10
PBR_NEIGHBOURS = 50
KMEANS_ROUNDS = 15
_BLOCK = 256  # rows whose distances to all others are held at once; of 40,000 regions that is 120 MB


def brute_force_refined(features: np.ndarray, neighbours: int = BFR_NEIGHBOURS) -> np.ndarray:
    """Mean of each feature and its S nearest of the whole set (BFR, eq. 11).

    features: (N, D) float32. neighbours: S; all others where there are fewer. Returns (N, D) float32.
    """
    count = min(neighbours, len(features) - 1)
    halved_norms = np.square(features).sum(axis=1) / 2
    refined = np.empty_like(features)
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        nearness = block @ features.T - halved_norms
        nearness[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        chosen = np.argpartition(-nearness, max(count - 1, 0), axis=1)[:, :count]
        refined[start : start + _BLOCK] = (block + features[chosen].sum(axis=1)) / (count + 1)
    return refined


def proposal_refined(features: np.ndarray, neighbours: int = PBR_NEIGHBOURS, seed: int = 0) -> np.ndarray:
    """Mean of each feature and its S nearest within its k-means cluster (PBR, eq. 12).

    features: (N, D) float32, N >= 256. neighbours: S; all of the cluster where it is smaller. Returns (N, D) float32.
    """
    clusters, _ = _clustered(features, seed)
    refined = features.copy()
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        refined[members] = brute_force_refined(features[members], neighbours)
    return refined


def centre_refined(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Mean of each feature and its k-means cluster's centre (CBR, eq. 13).

    features: (N, D) float32, N >= 256. Returns (N, D) float32.
    """
    clusters, centres = _clustered(features, seed)
    return (features + centres[clusters]) / 2


def _clustered(features: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means with 256 centres (the paper does not say how many): clusters (N,) and centres (256, D)."""
    centres = refine_centroids(features, first_centroids(features, 1, seed), KMEANS_ROUNDS)
    return nearest(features, centres)[0][:, 0], centres[0]


Refinement = Callable[[np.ndarray, int], np.ndarray]

REFINEMENTS: dict[str, Refinement] = {
    "none": lambda features, seed: features,
    "bfr": lambda features, seed: brute_force_refined(features),
    "pbr": lambda features, seed: proposal_refined(features, seed=seed),
    "cbr": lambda features, seed: centre_refined(features, seed=seed),
}


def refinement_named(name: str) -> Refinement:
    """The refinement of that name: features (N, D) and seed to refined features. Raises UsageError for another name."""
    if name not in REFINEMENTS:
        raise UsageError(f"no refinement {name!r}: choose of {', '.join(REFINEMENTS)}")
    return REFINEMENTS[name]
