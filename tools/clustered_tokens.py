"""Synthetic tokens for timing: clustered Gaussians laid out as blobs on the grid, a few things of a few parts each."""

from __future__ import annotations

import numpy as np

THINGS, PARTS = 6, 3
SHARES = (0.25, 0.3, 0.15)  # variance shared by all tokens, by a thing's, by a part's; the rest is a token's own


def clustered_tokens(grid: tuple[int, int], width: int, seed: int = 0) -> np.ndarray:
    """(N, width) float32 tokens, row-major on grid.

    Every token belongs to the nearest of THINGS points on the grid, and inside it to the nearest of PARTS points. A
    token is a weighted sum of Gaussian vectors, the picture's, the thing's, the part's and its own, so cosines are
    about 0.25 between things, 0.55 inside a thing and 0.7 inside a part, give or take a few of the things' own;
    norms vary by a factor of about two, so that the high-energy tokens are whole things.
    """
    rng = np.random.default_rng(seed)
    rows, columns = grid
    places = np.stack(np.meshgrid(np.arange(rows) / rows, np.arange(columns) / columns, indexing="ij"), -1)
    places = places.reshape(-1, 2)
    thing_points = rng.uniform(size=(THINGS, 2))
    thing = nearest(places, thing_points)
    part_points = thing_points[:, None] + rng.normal(scale=0.12, size=(THINGS, PARTS, 2))
    part = np.array([nearest(places[i : i + 1], part_points[t])[0] for i, t in enumerate(thing)])
    shared, of_thing, of_part = (np.sqrt(share) for share in SHARES)
    own = np.sqrt(1 - sum(SHARES))
    tokens = (
        shared * rng.normal(size=width)
        + of_thing * rng.normal(size=(THINGS, width))[thing]
        + of_part * rng.normal(size=(THINGS, PARTS, width))[thing, part]
        + own * rng.normal(size=(len(places), width))
    )
    tokens -= 0.4 * shared * tokens.mean(axis=0)
    strength = rng.uniform(1, 2, size=THINGS)[thing] * rng.uniform(0.9, 1.1, size=len(places))
    return (tokens * strength[:, None]).astype(np.float32)


def nearest(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Index of the nearest point: (N, 2) and (K, 2) -> (N,)."""
    return np.square(places[:, None] - points).sum(axis=2).argmin(axis=1)
