"""A dataset through a pipeline: its pictures enrolled, its queries described, everything ranked."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from edge_claid import ops
from edge_claid.config import SearchSettings
from edge_claid.datasets.dataset import Dataset, Query
from edge_claid.errors import UsageError
from edge_claid.evaluate.metrics import Ranked
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery.enrolment.enroll import Describer, EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome, Summary
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.store import Gallery
from edge_claid.records import Descriptors, Hit

Described = dict[str, Descriptors]


class QueryDescriber(Protocol):
    """What describing queries needs of a pipeline."""

    def describe(self, image: Any, box: Any = None, *, boxes: Any = None) -> Descriptors:
        """Descriptors of some boxes of a picture, or of the whole, one row a box."""


class Search(Protocol):
    """What ranking needs of a gallery."""

    def query(self, descriptors: Descriptors, k: int = 10) -> list[Hit]:
        """The k best images, all of them for k = 0."""


def rank_all(
    dataset: Dataset,
    pipeline: QueryDescriber,
    gallery: Gallery,
    *,
    exact: bool = False,
    settings: SearchSettings | None = None,
) -> dict[str, list[Ranked]]:
    """Every query's ranking of all pictures of the dataset that the gallery holds; see ``evaluate``.

    exact: by float descriptors, which the gallery must keep. Raises what describing and searching raise.
    """
    search = GallerySearch(gallery, ops.load().code_scan, settings, exact=exact)
    return rank(dataset.queries, describe_queries(dataset, pipeline), search, image_ids(dataset, gallery))


def enrol_dataset(
    dataset: Dataset,
    pipeline: Describer,
    gallery: Gallery,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> Summary:
    """Enrol the pictures that are searched; float descriptors are kept, so that codes of any length can be made."""
    paths = [os.path.abspath(image.path) for image in dataset.images if image.searched]
    if not paths:
        raise UsageError(f"dataset {dataset.name} has no pictures to search")
    source = PictureFiles(dataset.name, os.path.commonpath([os.path.dirname(path) for path in paths]), paths)
    return enroll(gallery, [source], pipeline, EnrollOptions(keep_descriptors=True), report)


def describe_queries(dataset: Dataset, pipeline: QueryDescriber, threads: int = 2) -> Described:
    """Each query's descriptors, by its id. Raises UsageError naming a query that cannot be described."""
    paths = {image.id: image.path for image in dataset.images}

    def describe(query: Query) -> tuple[str, Descriptors]:
        try:
            return query.id, pipeline.describe(paths[query.image], boxes=query.boxes)
        except UsageError as error:
            raise UsageError(f"dataset {dataset.name}, query {query.id!r}: {error}") from error

    with ThreadPoolExecutor(threads) as pool:
        return dict(pool.map(describe, dataset.queries))


def rank(
    queries: Iterable[Query], described: Described, search: Search, ids: Mapping[tuple[str, str], list[str]]
) -> dict[str, list[Ranked]]:
    """Rankings by query id. ids: (root, path) of a gallery's image to the ids it has in the dataset."""
    rankings: dict[str, list[Ranked]] = {}
    for query in queries:
        hits = search.query(described[query.id], k=0)
        rankings[query.id] = [
            (image_id, hit.score, hit.box) for hit in hits for image_id in ids.get((hit.root, hit.image), ())
        ]
    return rankings


def image_ids(dataset: Dataset, gallery: Gallery) -> dict[tuple[str, str], list[str]]:
    """(root, path) in the gallery to ids in the dataset; several where pictures have the same content.

    A gallery holds one image for each content, so the copies in a dataset share that image's hits.
    """
    ids_at: dict[str, list[str]] = defaultdict(list)
    for image in dataset.images:
        if image.searched:
            ids_at[os.path.abspath(image.path)].append(image.id)
    ids: dict[tuple[str, str], list[str]] = {}
    for root in all_roots(gallery):
        below = os.path.join(root.location, "")
        for copies in same_content(ids_at):
            shared = [image_id for path in copies for image_id in ids_at[path]]
            for path in copies:
                if path.startswith(below):
                    ids[root.name, os.path.relpath(path, root.location).replace(os.sep, "/")] = shared
    return ids


def same_content(paths: Iterable[str]) -> list[list[str]]:
    """Files grouped by content; only files of equal size are read. A missing file stands alone."""
    by_size: dict[int, list[str]] = defaultdict(list)
    groups: list[list[str]] = []
    for path in paths:
        if os.path.isfile(path):
            by_size[os.path.getsize(path)].append(path)
        else:
            groups.append([path])
    for same_size in by_size.values():
        by_digest: dict[bytes, list[str]] = defaultdict(list)
        for path in same_size:
            by_digest[_digest(path) if len(same_size) > 1 else b""].append(path)
        groups += by_digest.values()
    return groups


def _digest(path: str) -> bytes:
    return hashlib.blake2b(Path(path).read_bytes()).digest()
