"""A code space for a gallery, learned by UDQ from its stored descriptors."""

from __future__ import annotations

from collections.abc import Callable

from edge_claid.codes.space import CodeSpace
from edge_claid.config import CodeSettings
from edge_claid.gallery.drift import TRAINED_ON
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import ViewDescriber, trained_space
from edge_claid.learn.udq import Progress, UdqSettings, learn_udq


def learned_space(
    gallery: Gallery,
    codes: CodeSettings,
    settings: UdqSettings,
    pipeline: ViewDescriber | None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> CodeSpace:
    """The code space that UDQ learns from a gallery, over the whitening that an ordinary training starts from.

    codes, pipeline: as for an ordinary training, which is run first for its whitening. Nothing is written.
    Raises UsageError for too few regions or values that are not finite.
    """
    start = trained_space(gallery, codes, pipeline).projection
    return learn_udq(gallery.descriptors(TRAINED_ON), start, settings, report)
