"""Settings, one frozen dataclass per stage. A flag beats the environment, which beats the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RegionSettings:
    """How tokens become regions (CLAID, papers/claid.txt §III).

    alpha: two tokens are connected where their cosine is above it (eq. 5).
    tau1: a node is cut while its mean internal connectivity (eq. 9) is below it.
    tau2: a node is a region when more than this share of its tokens has high energy (eq. 10).
    energy_share: share of an image's tokens that count as high-energy.
    smallest: components with fewer tokens are dropped.
    merge_iou: a region whose mask overlaps its nearest kept ancestor by more than this IoU is left out; 1 keeps all.
    center: subtract the network's mean token before cosines are taken.
    """

    alpha: float = 0.2
    tau1: float = 0.97
    tau2: float = 0.1
    energy_share: float = 0.3
    smallest: int = 15
    merge_iou: float = 0.9
    center: bool = True
