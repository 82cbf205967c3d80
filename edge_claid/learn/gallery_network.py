"""A descriptor network of a gallery's own, fine-tuned by UDQ on its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edge_claid.codes.opq import train_opq
from edge_claid.codes.projection import Projection, fit_whitening
from edge_claid.codes.space import CodeSpace
from edge_claid.config import CodeSettings, DescriptorSettings
from edge_claid.gallery.drift import TRAINED_ON
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import own_views
from edge_claid.learn.export import exported
from edge_claid.learn.finetune import RegionFeatures, finetuned
from edge_claid.learn.network import EfficientNetLite
from edge_claid.learn.pictures import GalleryPictures
from edge_claid.learn.udq import Progress, UdqSettings
from edge_claid.models.fetch import fetch_weights
from edge_claid.models.torch_file import read_state_dict
from edge_claid.models.tuned import keep_tuned
from edge_claid.models.zoo import ZooEntry

# §4.2's rate for a whole network. How many steps and pictures a step, the paper does not say.
LEARNING_RATE, STEPS, PICTURES = 1e-3, 200, 8
_COMPARED = 4  # pictures that the export is compared on


@dataclass(frozen=True)
class TunedNetwork:
    """network: as it is in the cache now. projection: for its descriptors, the head folded in."""

    network: ZooEntry
    projection: Projection

    def space(self, settings: UdqSettings) -> Callable[[Gallery, Any], CodeSpace]:
        """What gives a gallery described by this network its code space (Algorithm 1, line 8)."""

        def train(gallery: Gallery, pipeline: Any) -> CodeSpace:
            values = self.projection.project(gallery.descriptors(TRAINED_ON))
            return CodeSpace(self.projection, train_opq(values, settings.bytes, seed=settings.seed))

        return train


def tuned_network(
    gallery: Gallery,
    base: ZooEntry,
    pipeline: Any,
    codes: CodeSettings,
    pooling: DescriptorSettings,
    settings: UdqSettings,
    device: torch.device | str,
    report: Callable[[Progress], None] = lambda progress: None,
) -> TunedNetwork:
    """Fine-tune a network of zoo.toml on the pictures of a gallery and keep it in the cache; the gallery is only read.

    base: the network that ``pipeline`` describes with. codes: for the whitening that the head starts from. settings:
    its batch is one of pictures. Nothing is kept before all is learned. Raises what ``finetuned`` and ``exported``
    raise, and GalleryError where pictures are gone.
    """
    pictures = GalleryPictures(gallery, pipeline)

    def whitening(descriptors: np.ndarray) -> Projection:
        within = own_views(gallery, codes, pipeline) if codes.views else None
        parts = gallery.descriptor_parts
        return fit_whitening(descriptors, codes.width, power=codes.whitening, within=within, parts=parts)

    state = read_state_dict(fetch_weights(base).read_bytes())
    network = EfficientNetLite.from_state(state, base.build["width"], base.build["depth"])
    projection = finetuned(pictures, RegionFeatures(network, pooling).to(device), whitening, settings, report)
    compared = np.linspace(0, len(pictures.regions) - 1, _COMPARED).astype(int)
    return TunedNetwork(keep_tuned(exported(network, (pictures[i].image for i in compared)), base), projection)
