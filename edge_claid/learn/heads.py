"""The part of a descriptor that learns: a linear layer on projected descriptors that starts as the identity."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edge_claid.codes.projection import Projection


class ProjectionHead(nn.Module):
    """x -> normalise(W x), from (B, d) to (B, d); at first W is the identity.

    In the paper the fully-connected layers on top of the pooled regions learn; stored descriptors end where those
    begin, so this layer takes their place, over a gallery's whitening. Without a bias it folds into the projection
    that a code space has anyway: the run time needs nothing new for it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, d) projected descriptors to (B, d) features of unit L2 norm."""
        return functional.normalize(self.linear(values), dim=1)

    @torch.no_grad()
    def features(self, values: np.ndarray) -> np.ndarray:
        """The same for arrays: (N, d) float32 to (N, d) float32."""
        return self(torch.from_numpy(values).to(self.linear.weight.device)).cpu().numpy()

    @torch.no_grad()
    def folded_into(self, projection: Projection) -> Projection:
        """One projection that does both: normalise(W normalise(y)) = normalise(W y)."""
        weight = self.linear.weight.cpu().numpy().astype(np.float64)
        matrix = projection.matrix.astype(np.float64) @ weight.T
        return Projection(projection.mean, np.ascontiguousarray(matrix, np.float32))
