"""A gallery's descriptors and a dataset's queries, ready for one code space after another.

Three ways to choose the pictures that a code space is trained on: "own" takes the whole gallery, as ``learn udq`` does
(no labels are used); "first" and "second" hold the pictures of one half of the instances out, for the queries of that
half.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from edge_claid.codes.projection import Projection, fit_whitening, normalised
from edge_claid.codes.space import CodeSpace
from edge_claid.config import CodeSettings
from edge_claid.datasets import open_dataset
from edge_claid.datasets.dataset import Dataset
from edge_claid.evaluate.metrics import Ranked, evaluate
from edge_claid.evaluate.run import describe_queries, image_ids
from edge_claid.gallery.lookup.localise import agreed_region, image_scores
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.store import Gallery
from edge_claid.pipeline import Pipeline

HELD_OUT = ("first", "second")
SPLITS = ("own", *HELD_OUT)


@dataclass(frozen=True)
class Trial:
    """Regions of I images, N in all, row for row, and Q queries.

    regions: split -> (N, D) float32, descriptors as that split's whitening projects them. starts: (I + 1,).
    boxes: (N, 4). ids: dataset ids of each image. queries: split -> (Q, D) float32, likewise, in the dataset's order.
    aspects: (Q,) width / height of their boxes, NaN where unknown. halves: which half each query's instance is in, by
    query id. training: split -> (N,) bool, regions that may be trained on.
    temperature: of the vote for the box, see edge_claid.config.SearchSettings. key: tells trials apart.
    """

    dataset: Dataset
    regions: dict[str, np.ndarray]
    starts: np.ndarray
    boxes: np.ndarray
    ids: list[list[str]]
    queries: dict[str, np.ndarray]
    aspects: np.ndarray
    halves: dict[str, str]
    training: dict[str, np.ndarray]
    temperature: float
    key: str = ""

    def asked(self, split: str) -> Dataset:
        """The dataset with the queries that a split is for."""
        chosen = tuple(q for q in self.dataset.queries if split == "own" or self.halves[q.id] == split)
        return replace(self.dataset, queries=chosen)

    def rankings(self, space: CodeSpace | Projection, split: str) -> dict[str, list[Ranked]]:
        """Rankings of a split's queries by codes, or by float features where ``space`` is but a projection.

        space: over the split's whitened descriptors. Scores and boxes as gallery/lookup/search.py gives them for all
        images; boxes for relevant images only, as no figure looks at others.
        """
        projection = space.projection if isinstance(space, CodeSpace) else space
        regions = projected(projection, self.regions[split])
        if isinstance(space, CodeSpace):
            regions = space.book.decode(space.book.encode(regions))
            regions /= np.maximum(np.linalg.norm(regions, axis=1, keepdims=True), 1e-6)
        dataset = self.asked(split)
        asked = {query.id for query in dataset.queries}
        rows = [row for row, query in enumerate(self.dataset.queries) if query.id in asked]
        scores = np.minimum(projected(projection, self.queries[split][rows]) @ regions.T, 1.0)
        return {
            query.id: self._ranked(query.id, own, None if np.isnan(aspect) else aspect)
            for query, own, aspect in zip(dataset.queries, scores, self.aspects[rows].tolist(), strict=True)
        }

    def error(self, space: CodeSpace, split: str) -> float:
        """Squared error of features in a code space, relative to their squares: of all, or of those held out."""
        asked = slice(None) if split == "own" else ~self.training[split]
        features = projected(space.projection, self.regions[split][asked])
        lost = features - space.book.decode(space.book.encode(features))
        return float(np.square(lost).sum() / np.square(features).sum())

    def _ranked(self, query: str, scores: np.ndarray, aspect: float | None) -> list[Ranked]:
        relevant = {entry.image for entry in self.dataset.truth.get(query, ()) if not entry.ignore}
        by_image = [scores[start:stop] for start, stop in pairwise(self.starts.tolist())]
        ranked: list[Ranked] = []
        for image, score in enumerate(image_scores(by_image).tolist()):
            box = None
            if relevant.intersection(self.ids[image]):
                boxes = self.boxes[self.starts[image] : self.starts[image + 1]]
                box = boxes[agreed_region(boxes, by_image[image], self.temperature, aspect)].tolist()
            ranked += [(name, score, box) for name in self.ids[image]]
        return ranked

    def figures(self, spaces: dict[str, CodeSpace | Projection]) -> dict[str, float]:
        """mAP and mIoU over all queries; spaces: split -> what its queries are ranked with."""
        rankings: dict[str, list[Ranked]] = {}
        for split, space in spaces.items():
            rankings |= self.rankings(space, split)
        report = evaluate(self.dataset, rankings)["all"]
        return {name: float(report[name] or 0.0) for name in ("mAP", "mIoU")}


def projected(projection: Projection, values: np.ndarray) -> np.ndarray:
    """What Projection.project gives but for rounding, by a library's quicker product."""
    return normalised((values - projection.mean) @ projection.matrix)


def open_trial(gallery_path: Path, dataset_path: Path, cache: Path | None) -> Trial:
    """Read the gallery, describe the queries, look at views of its pictures and whiten; kept in ``cache``.

    The gallery must hold the dataset's pictures with float descriptors; the dataset's gt.json names instances.
    """
    dataset = open_dataset(dataset_path)
    halves, holds = split_instances(dataset, instances_of(dataset_path))
    with Gallery.open(gallery_path) as gallery, Pipeline.open() as pipeline:
        gallery.require_pipeline(pipeline.id, pipeline.describe_settings)
        images = list(gallery.images())
        descriptors = gallery.descriptors(sys.maxsize)
        boxes, parts = [gallery.regions(image.id).boxes for image in images], gallery.descriptor_parts
        if len(descriptors) != sum(map(len, boxes)):
            raise SystemExit(f"{gallery_path} does not keep all descriptors: enrol with --keep-descriptors")
        names = image_ids(dataset, gallery)
        ids = [names[image.root, image.path] for image in images]
        places = {root.id: root.location for root in all_roots(gallery)}
        files = [os.path.join(places[image.root_id], image.path) for image in images]
        held = [set().union(*(holds[name] for name in own)) for own in ids]
        images_of = {s: [i for i, h in enumerate(held) if s == "own" or s not in h] for s in SPLITS}
        key = hashlib.sha256(f"{pipeline.id} {len(descriptors)} {len(dataset.queries)}".encode()).hexdigest()
        counts = np.array([len(own) for own in boxes])
        training = {s: np.repeat(np.isin(np.arange(len(images)), images_of[s]), counts) for s in SPLITS}
        known = _cached(cache, key)
        if known is None:
            views = _looked_at(dataset, pipeline, files, boxes, images_of)
            known = {"key": np.array(key)} | _whitened(descriptors, views, training, pipeline.settings.codes, parts)
            if cache is not None:
                np.savez(cache, **known)
        temperature = pipeline.settings.search.temperature
    starts = np.concatenate([[0], np.cumsum(counts)])
    regions, queries = ({s: known[f"{what} {s}"] for s in SPLITS} for what in ("regions", "queries"))
    return Trial(
        dataset, regions, starts, np.concatenate(boxes), ids, queries, known["aspects"], halves, training, temperature,
        key[:16],
    )  # fmt: skip


def instances_of(dataset: Path) -> dict[str, tuple[str, str]]:
    """Source and instance of each query, by its id; a query without an instance stands alone."""
    queries = json.loads((dataset / "gt.json").read_text())["queries"]
    return {query["id"]: (query.get("source", ""), query.get("instance", query["id"])) for query in queries}


def split_instances(
    dataset: Dataset, instances: dict[str, tuple[str, str]]
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Each source's instances dealt out in turn: every query's half, and the halves each picture shows a thing of."""
    dealt: Counter[str] = Counter()
    half_of = {}
    for source, name in sorted(set(instances.values())):
        half_of[source, name] = HELD_OUT[dealt[source] % 2]
        dealt[source] += 1
    halves = {query: half_of[name] for query, name in instances.items()}
    holds: dict[str, set[str]] = defaultdict(set)
    for query in dataset.queries:
        shown = [entry.image for entry in dataset.truth.get(query.id, ()) if not entry.ignore]
        for image in (query.image, *shown):
            holds[image].add(halves[query.id])
    return halves, holds


def _cached(cache: Path | None, key: str) -> dict[str, np.ndarray] | None:
    if cache is None or not cache.exists():
        return None
    with np.load(cache, allow_pickle=False) as stored:
        return dict(stored) if str(stored["key"]) == key else None


def _looked_at(
    dataset: Dataset,
    pipeline: Pipeline,
    files: list[str],
    boxes: list[np.ndarray],
    images_of: dict[str, list[int]],
) -> dict[str, np.ndarray]:
    """Descriptors of the queries, and per split the scatter of regions over views of 64 of its training pictures."""
    described = describe_queries(dataset, pipeline)
    queries = [described[query.id] for query in dataset.queries]
    aspects = [np.nan if query.aspects is None else query.aspects[0] for query in queries]
    views = {"queries": np.concatenate([query.values for query in queries]), "aspects": np.array(aspects, np.float64)}
    codes = pipeline.settings.codes
    for split, images in images_of.items():
        print(f"views of pictures to train on: {split}", file=sys.stderr, flush=True)
        spread = np.unique(np.linspace(0, len(images) - 1, codes.views).round().astype(int))
        within = pipeline.view_scatter(((files[images[i]], boxes[images[i]]) for i in spread), codes.views_each)
        assert within is not None
        views[f"within {split}"] = within
    return views


def _whitened(
    descriptors: np.ndarray,
    views: dict[str, np.ndarray],
    training: dict[str, np.ndarray],
    codes: CodeSettings,
    parts: Sequence[int],
) -> dict[str, np.ndarray]:
    """Regions and queries as each split's whitening projects them, and the queries' aspects."""
    found = {"aspects": views["aspects"]}
    for split, rows in training.items():
        within = views[f"within {split}"]
        whitening = fit_whitening(descriptors[rows], codes.width, power=codes.whitening, within=within, parts=parts)
        found[f"regions {split}"] = whitening.project(descriptors)
        found[f"queries {split}"] = whitening.project(views["queries"])
    return found
