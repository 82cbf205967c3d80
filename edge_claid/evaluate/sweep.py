"""One dataset under several settings: kinds of regions, and lengths of codes."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid import ops
from edge_claid.codes.space import regions_needed, require_trainable
from edge_claid.config import CodeSettings, Settings
from edge_claid.datasets.dataset import Dataset
from edge_claid.errors import UsageError
from edge_claid.evaluate.metrics import Report, evaluate
from edge_claid.evaluate.proposing import PROPOSALS, ProposingPipeline
from edge_claid.evaluate.run import Described, describe_queries, enrol_dataset, image_ids, rank
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import own_views, trained_space

log = logging.getLogger(__name__)

REGIONS = ("claid", *PROPOSALS)


@dataclass(frozen=True)
class Setting:
    """One row of the table. regions: name of the detector. bytes: of a region's code; 0 for float descriptors."""

    regions: str
    bytes: int
    regions_per_image: float
    seconds_per_query: float

    def as_json(self) -> dict[str, Any]:
        """For a results file."""
        return {
            "regions": self.regions,
            "bytes": self.bytes,
            "regions_per_image": round(self.regions_per_image, 2),
            "seconds_per_query": round(self.seconds_per_query, 5),
        }


def sweep(
    dataset: Dataset,
    pipeline: Any,
    settings: Settings,
    folder: Path,
    regions: Sequence[str] = ("claid",),
    lengths: Sequence[int | None] = (None,),
    galleries: dict[str, Path] | None = None,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> Iterator[tuple[Setting, Report]]:
    """Evaluate every kind of regions at every code length, one after the other.

    pipeline: an opened one. folder: for temporary galleries. lengths: bytes of a region's code, 0 for float
    descriptors, None for what the gallery has, or an ordinary enrolment would give it. galleries: by kind of regions,
    one to keep (made where it is missing, else brought up to date); its codes stay, lengths are tried on a copy.
    A setting with too few regions to train codes on is left out with a warning, unless it is the only one.
    Raises UsageError for unknown regions, and for too few regions where there is only one setting.
    """
    _check(regions, lengths, settings)
    described = describe_queries(dataset, pipeline)
    for name in regions:
        path = (galleries or {}).get(name, folder / f"{name}.claid")
        with Gallery.open(path, "create") as gallery:
            describer = pipeline if name == "claid" else ProposingPipeline(pipeline, name)
            enrol_dataset(dataset, describer, gallery, report)
            # Learned once for all lengths: it costs as much as describing the pictures again.
            within = own_views(gallery, settings.codes, pipeline) if settings.codes.views else None
        for length in lengths:
            copy = folder / f"{name}-{length}.claid"
            shutil.copy(path, copy)
            with Gallery.open(copy, "rw") as gallery:
                if _too_small(gallery, settings.codes, length) and len(regions) * len(lengths) > 1:
                    log.warning("%s: too few regions to train codes of %d bytes on; left out", name, length)
                    continue
                yield _evaluated(dataset, described, gallery, settings, name, length, within)
            copy.unlink()


def _check(regions: Sequence[str], lengths: Sequence[int | None], settings: Settings) -> None:
    """What can be known before the pictures are described. Raises UsageError."""
    unknown = [name for name in regions if name not in REGIONS]
    if unknown:
        raise UsageError(f"no regions {unknown[0]!r}: choose of {', '.join(REGIONS)}")
    for wanted in filter(None, lengths):
        require_trainable(sys.maxsize, replace(settings.codes, bytes=wanted))


def _evaluated(
    dataset: Dataset,
    described: Described,
    gallery: Gallery,
    settings: Settings,
    name: str,
    length: int | None,
    within: np.ndarray | None,
) -> tuple[Setting, Report]:
    _code(gallery, settings.codes, length, within)
    exact = length == 0 and gallery.space is not None
    search = GallerySearch(gallery, ops.load().code_scan, settings.search, exact=exact)
    ids = image_ids(dataset, gallery)
    started = time.perf_counter()
    rankings = rank(dataset.queries, described, search, ids)
    seconds = (time.perf_counter() - started) / max(len(dataset.queries), 1)
    info = gallery.info()
    length = length if length is not None else info.code_bytes or 0
    return Setting(name, length, info.regions / max(info.images, 1), seconds), evaluate(dataset, rankings)


def _code(gallery: Gallery, codes: CodeSettings, length: int | None, within: np.ndarray | None) -> None:
    """Give the gallery a code space of this length; float descriptors are searched in a code space's projection too."""
    if length is None and gallery.space is not None:
        return
    wanted = replace(codes, bytes=length or codes.bytes)
    if length or gallery.info().regions >= regions_needed(wanted):
        gallery.adopt_space(trained_space(gallery, wanted, None, within), keep_descriptors=True)


def _too_small(gallery: Gallery, codes: CodeSettings, length: int | None) -> bool:
    return bool(length) and gallery.info().regions < regions_needed(codes)
