"""What one module of UDQ learns from, and the two losses of features against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edge_claid.codes.codebook import CodeBook
from edge_claid.learn.losses.discriminability import discriminability_loss
from edge_claid.learn.losses.separability import separability_loss

SHARPNESS = 10.0  # of the classifiers' first softmax: logits are -SHARPNESS / 2 times squared distances


@dataclass(frozen=True)
class Supervision:
    """What one module learns from (Algorithm 1, lines 2 and 5).

    book: code book of the refined features. codes: (N, M) int64, each region's codewords, its pseudo labels.
    """

    book: CodeBook
    codes: torch.Tensor


class SubspaceClassifiers:
    """A linear classifier for each subspace, which learns along with the features (eq. 8).

    The classifiers go with their module's codewords, and start from them: with weights proportional to a codeword and
    a bias to its squared norm, the nearest codeword has the largest logit.
    """

    def __init__(self, supervision: Supervision, device: torch.device | str = "cpu") -> None:
        book = supervision.book
        assert book.rotation is not None
        self._rotation = torch.from_numpy(book.rotation).to(device)
        self._codewords = torch.from_numpy(book.centroids).to(device)
        self._codes = supervision.codes.to(device)
        self._subspaces = torch.arange(book.subspaces, device=device)
        self._weights = (SHARPNESS * self._codewords.transpose(1, 2)).contiguous().requires_grad_()
        self._biases = (-SHARPNESS / 2 * self._codewords.square().sum(dim=2)).requires_grad_()

    @property
    def parameters(self) -> list[torch.Tensor]:
        """What of them learns."""
        return [self._weights, self._biases]

    def losses(self, features: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Separability and discriminability of the features (B, d) of the regions ``chosen`` (B,), each a scalar.

        Features are rotated as the code book does, since its subspaces are what eq. 8 and 9 speak of.
        """
        labels = self._codes[chosen]
        split = (features @ self._rotation).view(len(chosen), len(self._subspaces), -1)
        separability = separability_loss(split, labels, self._weights, self._biases)
        return separability, discriminability_loss(split, self._codewords[self._subspaces, labels])
