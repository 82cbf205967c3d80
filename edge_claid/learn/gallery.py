"""A code space for a gallery, learned by UDQ from its stored descriptors."""

from __future__ import annotations

from collections.abc import Callable

from edge_claid.codes.projection import fit_whitening
from edge_claid.codes.space import CodeSpace
from edge_claid.config import CodeSettings
from edge_claid.gallery.drift import TRAINED_ON
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import ViewDescriber, own_views
from edge_claid.learn.udq import Progress, UdqSettings, learn_udq


def learned_space(
    gallery: Gallery,
    codes: CodeSettings,
    settings: UdqSettings,
    pipeline: ViewDescriber | None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> CodeSpace:
    """The code space that UDQ learns from a gallery, over the whitening that an ordinary training starts from.

    codes: width and whitening. pipeline: as for an ordinary training, describes views of the gallery's own pictures;
    None leaves that out. Nothing is written. Raises UsageError for too few regions or values that are not finite.
    """
    descriptors = gallery.descriptors(TRAINED_ON)
    within = own_views(gallery, codes, pipeline) if pipeline is not None and codes.views else None
    projection = fit_whitening(
        descriptors, codes.width, power=codes.whitening, within=within, parts=gallery.descriptor_parts
    )
    return learn_udq(descriptors, projection, settings, report)
