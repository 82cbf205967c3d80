"""The order of codewords: a permutation that puts near ones where the scan looks them up together."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.codes.grouping import codeword_order, grouped_centroids
from edge_claid.codes.opq import train_opq
from edge_claid.codes.pq import train_pq

NUMBER = np.arange(256)
GROUP = NUMBER & 15 | NUMBER >> 6 << 4


def scatter(codewords):
    """Sum of squared distances to the centre of the own group."""
    centres = np.stack([codewords[group == GROUP].mean(axis=0) for group in range(64)])
    return float(((codewords - centres[GROUP]) ** 2).sum())


def test_clusters_of_four_become_groups():
    rng = np.random.default_rng(0)
    codewords = np.repeat(rng.uniform(-100, 100, (64, 5)), 4, axis=0) + rng.uniform(-1, 1, (256, 5))
    order = codeword_order(rng.permutation(codewords))
    assert sorted(order) == list(range(256))
    shuffled = np.random.default_rng(1).permutation(256)
    found = codewords[shuffled][codeword_order(codewords[shuffled])]
    assert scatter(found) < 4 * 256 * 5 / 3


@pytest.mark.parametrize(("width", "share"), [(4, 0.3), (8, 0.45), (48, 0.85)])
def test_groups_are_tighter_than_by_chance(width, share):
    codewords = np.random.default_rng(width).normal(size=(256, width))
    assert scatter(codewords[codeword_order(codewords)]) < share * scatter(codewords)


def test_equal_codewords_and_single_dimensions():
    assert sorted(codeword_order(np.zeros((256, 3), np.float32))) == list(range(256))
    assert sorted(codeword_order(np.arange(256, dtype=np.float32)[:, None])) == list(range(256))


@pytest.mark.parametrize("train", [train_pq, train_opq])
def test_trained_code_books_are_in_this_order(train):
    values = np.random.default_rng(2).normal(size=(2000, 16)).astype(np.float32)
    centroids = train(values, 4, iterations=3).centroids
    again = grouped_centroids(centroids)
    for subspace, other in zip(centroids, again, strict=True):
        assert scatter(subspace) < 1.02 * scatter(other)
