"""Settings of the decomposition, the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass

from edge_claid.errors import UsageError


@dataclass(frozen=True)
class DecompositionSettings:
    """What every backend's `decompose` takes by keyword; the defaults are the authors' (CLAID, §III and §IV).

    alpha: tokens are connected where their cosine is above it (eq. 5). tau1: a node is cut while its mean connectivity
    (eq. 9, the diagonal left out) is below it; the root is always cut. energy_share: share of the tokens that count as
    high-energy. smallest: components with fewer tokens are dropped; an image with fewer has the root alone. max_nodes:
    no node is added beyond it.
    Raises UsageError where smallest or max_nodes is below 1.
    """

    alpha: float = 0.2
    tau1: float = 0.97
    energy_share: float = 0.3
    smallest: int = 15
    max_nodes: int = 4096

    def __post_init__(self) -> None:
        if self.smallest < 1 or self.max_nodes < 1:
            raise UsageError(f"smallest = {self.smallest} and max_nodes = {self.max_nodes} must both be at least 1")
