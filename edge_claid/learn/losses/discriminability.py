"""Discriminability: every subfeature is drawn to its own codeword (UDQ, papers/udq.txt eq. 9)."""

from __future__ import annotations

import torch


def discriminability_loss(features: torch.Tensor, codewords: torch.Tensor) -> torch.Tensor:
    """Squared L2 distance to the quantised feature, summed over subspaces, mean over regions.

    features: (B, M, D / M) float. codewords: (B, M, D / M), each region's codeword of each subspace, held fixed.
    Returns a scalar. The paper sums over regions too; see separability_loss.
    """
    return (features - codewords).square().sum() / len(features)
