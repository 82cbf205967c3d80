"""Separability: every subfeature is to be recognised as its own codeword's (UDQ, papers/udq.txt eq. 8)."""

from __future__ import annotations

import torch
from torch.nn import functional


def separability_loss(
    features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, biases: torch.Tensor
) -> torch.Tensor:
    """Softmax cross-entropy of each subspace's linear classifier, summed over subspaces, mean over regions.

    features: (B, M, D / M) float. labels: (B, M) int64, codeword of region b in subspace m.
    weights: (M, D / M, K). biases: (M, K). Returns a scalar. The paper sums over regions too; the mean keeps the
    learning rate's meaning at every batch size.
    """
    logits = torch.einsum("bmd,mdk->bmk", features, weights) + biases
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / len(features)
