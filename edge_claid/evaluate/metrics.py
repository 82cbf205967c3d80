"""How good rankings are: mAP at 50, at 100 and over all, recall at 1, and the mean IoU of the returned boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.datasets.dataset import Box, Dataset, Query
from edge_claid.errors import UsageError

Ranked = tuple[str, float, "Sequence[float] | None"]
Rankings = Mapping[str, Sequence[Ranked]]
Report = dict[str, dict[str, "float | int | None"]]

CUTS = {"mAP-50": 50, "mAP-100": 100, "mAP": None}


@dataclass(frozen=True)
class QueryResult:
    """One query's figures.

    precision: average precision by the name of its cut. first: whether the first picture is relevant.
    ious: one per relevant picture that has boxes; 0 where it was not returned, or without a box.
    """

    source: str
    precision: dict[str, float]
    first: bool
    ious: tuple[float, ...]


def evaluate(dataset: Dataset, rankings: Rankings) -> Report:
    """Figures over all queries, under ``"all"``, and by the queries' source.

    rankings: query id -> (image id, score, box or None) of every picture; sorted here by falling score, ties in the
    order given; of a picture given twice the better counts.
    Returns {"all" or source: {"queries", "mAP-50", "mAP-100", "mAP", "recall@1", "mIoU"}}: means over queries,
    mIoU over pairs of query and relevant picture with boxes, None where there is none. Queries that have no relevant
    picture have no precision and are left out.
    Raises UsageError where a query has no ranking or a ranking names an unknown picture.
    """
    searched = {image.id for image in dataset.images if image.searched}
    results = [r for q in dataset.queries if (r := _query_result(dataset, q, rankings, searched)) is not None]
    report = {"all": _summary(results)}
    for source in dict.fromkeys(result.source for result in results):
        if source:
            report[source] = _summary([result for result in results if result.source == source])
    return report


def average_precision(relevant: Sequence[bool] | np.ndarray, total: int, cut: int | None = None) -> float:
    """AP@k = sum over the first k ranks of precision(i) · relevant(i), over min(k, total).

    relevant: by rank, whether the picture is relevant. total: relevant pictures there are (> 0). cut: k, or None.
    """
    hits = np.asarray(relevant[:cut], bool)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / (total if cut is None else min(cut, total)))


def iou(box: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1; 0 where both are empty."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    both = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (both - shared) if both > shared else 0.0


def _query_result(dataset: Dataset, query: Query, rankings: Rankings, searched: set[str]) -> QueryResult | None:
    boxes, removed = _relevant_boxes(dataset, query)
    if not boxes:
        return None
    if query.id not in rankings:
        raise UsageError(f"no ranking for query {query.id!r} of {dataset.name}; rank every query, an empty list is one")
    ranked = sorted(rankings[query.id], key=lambda entry: -entry[1])
    returned: dict[str, Sequence[float] | None] = {}
    for image, _, box in ranked:
        if image not in searched:
            raise UsageError(
                f"the ranking of query {query.id!r} names image {image!r}, which {dataset.name} does "
                "not search; use the dataset's image ids"
            )
        if image not in removed:
            returned.setdefault(image, box)
    relevant = [image in boxes for image in returned]
    ious = (_best_iou(returned.get(image), true) for image, true in boxes.items() if true)
    return QueryResult(
        query.source,
        {name: average_precision(relevant, len(boxes), cut) for name, cut in CUTS.items()},
        bool(relevant and relevant[0]),
        tuple(ious),
    )


def _relevant_boxes(dataset: Dataset, query: Query) -> tuple[dict[str, list[Box]], set[str]]:
    """True boxes of each relevant picture, and the pictures to take out of the ranking."""
    boxes: dict[str, list[Box]] = {}
    ignored = {query.image}
    for entry in dataset.truth.get(query.id, ()):
        if entry.ignore:
            ignored.add(entry.image)
        elif entry.image != query.image:
            boxes.setdefault(entry.image, []).extend([] if entry.box is None else [entry.box])
    return boxes, ignored - boxes.keys()


def _best_iou(box: Sequence[float] | None, true: Iterable[Box]) -> float:
    return 0.0 if box is None else max(iou(box, other) for other in true)


def _summary(results: Sequence[QueryResult]) -> dict[str, float | int | None]:
    summary: dict[str, float | int | None] = {"queries": len(results)}
    for name in CUTS:
        summary[name] = _mean([result.precision[name] for result in results])
    summary["recall@1"] = _mean([float(result.first) for result in results])
    summary["mIoU"] = _mean([value for result in results for value in result.ious])
    return summary


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
