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


@dataclass(frozen=True)
class NetworkSettings:
    """Which networks see a picture, and at what size.

    vit: name in the zoo of the network that gives tokens. vit_variant: "int8" or "fp32" (they share a pipeline id).
    token_layer: block whose output is used, from 0. vit_side: the picture is resized, keeping its shape, so that
    it has about as many pixels as a square of this side.
    descriptor: name in the zoo of the convolutional network. descriptor_side: length of the longer side it sees.
    """

    vit: str = "dinov2-s14-focus"
    vit_variant: str = "int8"
    token_layer: int = 8
    vit_side: int = 518
    descriptor: str = "efficientnet-lite0"
    descriptor_side: int = 640


@dataclass(frozen=True)
class DescriptorSettings:
    """How a region's descriptor is pooled from the convolutional map.

    power: exponent of the generalised mean; infinity takes the maximum.
    smallest_side: boxes are widened to at least this many cells of the map.
    """

    power: float = 3.0
    smallest_side: float = 1.0


@dataclass(frozen=True)
class CodeSettings:
    """How a gallery codes descriptors.

    bytes: length of a region's code. width: dimensions kept by the whitening. whitening: exponent of the whitening
    (1 full, 0.5 the square root of the spectrum, 0 plain PCA).
    """

    bytes: int = 16
    width: int = 256
    whitening: float = 0.5
