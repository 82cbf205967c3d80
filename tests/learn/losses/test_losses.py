"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")

from edge_claid.codes.codebook import CodeBook  # noqa: E402
from edge_claid.learn.losses.discriminability import discriminability_loss  # noqa: E402
from edge_claid.learn.losses.quantisation import quantisation_loss  # noqa: E402
from edge_claid.learn.losses.separability import separability_loss  # noqa: E402


def test_separability_of_two_subspaces_of_one_dimension():
    # One region, M = 2, K = 2. Logits of subspace 0: 1 * 2 + 0 = 2 and 1 * 0 + 1 = 1, codeword 0;
    # of subspace 1: 3 * 0 = 0 and 3 * 1 = 3, codeword 0.
    features = torch.tensor([[[1.0], [3.0]]])
    weights = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
    biases = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    loss = separability_loss(features, torch.tensor([[0, 0]]), weights, biases)
    expected = -math.log(math.e**2 / (math.e**2 + math.e)) - math.log(1 / (1 + math.e**3))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_separability_of_equal_logits_is_the_logarithm_of_the_codewords():
    features = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    loss = separability_loss(features, torch.zeros(5, 3, dtype=torch.int64), torch.zeros(3, 2, 7), torch.ones(3, 7))
    assert float(loss) == pytest.approx(3 * math.log(7), rel=1e-6)


def test_each_subspace_has_its_own_classifier():
    # Only the first subspace's classifier tells the codewords apart; mixing the two up would give another sum.
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    weights = torch.zeros(2, 2, 2)
    weights[0, 0, 1] = 10.0
    loss = separability_loss(features, torch.tensor([[1, 0]]), weights, torch.zeros(2, 2))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-10)) + math.log(2), rel=1e-5)


def test_discriminability_is_the_squared_distance_summed_over_subspaces():
    features = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 0.0]]])
    codewords = torch.tensor([[[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 2.0]]])
    # Region 0: 1 + 4 + 1 = 6; region 1: 4 + 4 = 8; mean 7.
    assert float(discriminability_loss(features, codewords)) == pytest.approx(7.0)


def test_quantisation_loss_is_the_mean_squared_error_of_the_decoded_features():
    centroids = np.zeros((2, 256, 1), np.float32)
    centroids[0, 1] = 1.0
    centroids[1, 1] = 2.0
    turn = np.array([[0, 1], [1, 0]], np.float32)
    # Rotated, the rows are (1, 2.5) and (0.25, 0): nearest are (1, 2) and (0, 0); errors 0.25 and 0.0625.
    features = np.array([[2.5, 1.0], [0.0, 0.25]], np.float32)
    assert quantisation_loss(features, CodeBook(turn, centroids)) == pytest.approx((0.25 + 0.0625) / 2)
