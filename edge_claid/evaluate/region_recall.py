"""How many of the objects in pictures have a region of their own: recall by IoU (CLAID §V-C, Fig. 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.datasets.coco import BoxDataset
from edge_claid.errors import UsageError
from edge_claid.evaluate.proposing import PROPOSALS
from edge_claid.frames.reading import read_picture
from edge_claid.records import Frame, Regions

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class RegionRecall:
    """Recall of objects by regions.

    recall: threshold -> share of true boxes that some region matches at IoU >= threshold.
    objects: true boxes counted. images: pictures. regions_per_image: mean number of regions.
    best_iou: mean over the true boxes of the best IoU.
    """

    recall: dict[float, float]
    objects: int
    images: int
    regions_per_image: float
    best_iou: float

    def as_json(self) -> dict[str, float | int | dict[str, float]]:
        """For a results file; thresholds become text."""
        return {
            "images": self.images,
            "objects": self.objects,
            "regions_per_image": self.regions_per_image,
            "best_iou": self.best_iou,
            "recall": {f"{threshold:g}": share for threshold, share in self.recall.items()},
        }


def region_recall(
    boxes: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    crowd: Mapping[str, np.ndarray] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> RegionRecall:
    """Share of true boxes that a region matches, over all pictures of ``boxes``.

    boxes: image id -> (R, 4) regions; truth: image id -> (K, 4) boxes of objects; crowd: image id -> (C, 4) areas of
    objects not told apart: they are no objects to find, and since only recall is taken, regions that fall into
    them do no harm; a true box that repeats a crowd's box is left out. All x0, y0, x1, y1 in pixels.
    """
    best: list[np.ndarray] = []
    for image, regions in boxes.items():
        objects = _without(truth.get(image, np.empty((0, 4))), (crowd or {}).get(image, np.empty((0, 4))))
        if len(objects):
            overlap = iou_matrix(objects, np.asarray(regions, np.float64).reshape(-1, 4))
            best.append(overlap.max(axis=1, initial=0.0))
    matched = np.concatenate(best) if best else np.empty(0)
    return RegionRecall(
        recall={float(t): float((matched >= t).mean()) if len(matched) else 0.0 for t in thresholds},
        objects=len(matched),
        images=len(boxes),
        regions_per_image=float(np.mean([len(regions) for regions in boxes.values()])) if boxes else 0.0,
        best_iou=float(matched.mean()) if len(matched) else 0.0,
    )


def recall_of_regions(
    dataset: BoxDataset,
    name: str = "claid",
    detect: Callable[[Frame], Regions] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> RegionRecall:
    """Recall by proposals of a name, or by the regions that ``detect`` gives ("claid"), on a dataset with boxes.

    advance: called after each picture. Raises BadImageError for a picture that cannot be read, UsageError for a name.
    """
    if name not in PROPOSALS and (name != "claid" or detect is None):
        raise UsageError(f"no regions {name!r}: choose of claid, {', '.join(PROPOSALS)}")
    found = {}
    for image in dataset.images:
        frame = read_picture(image.path)
        regions = PROPOSALS[name](frame.size) if detect is None or name != "claid" else detect(frame)
        found[image.id] = regions.boxes
        advance()
    return region_recall(found, dataset.boxes, dataset.crowd)


def iou_matrix(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(K, 4) and (R, 4) boxes to their (K, R) intersection over union; 0 where both are empty."""
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(far - corner, 0, None), axis=2)
    both = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None] + np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = both - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _without(objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    objects = np.asarray(objects, np.float64).reshape(-1, 4)
    if not len(crowd) or not len(objects):
        return objects
    same = (objects[:, None, :] == np.asarray(crowd, np.float64).reshape(-1, 4)[None]).all(axis=2).any(axis=1)
    return objects[~same]
