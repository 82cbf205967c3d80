"""Boxes of objects in pictures, to measure the recall of regions: our ``gt.json`` with boxes, or COCO's instances JSON.

COCO's format (cocodataset.org/#format-data): ``images`` [{id, file_name, width, height}], ``annotations`` [{image_id,
bbox [x, y, width, height], iscrowd}]; crowds are areas, not objects. Ours: ``images`` [{id, file, width, height}],
``boxes`` and ``crowd`` {image id: [[x0, y0, x1, y1], …]}.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid.datasets.dataset import DatasetImage
from edge_claid.datasets.files import read_json
from edge_claid.errors import UsageError


@dataclass(frozen=True)
class BoxDataset:
    """Pictures with the boxes of their objects.

    boxes, crowd: image id -> (K, 4) float64, x0, y0, x1, y1 in pixels; crowd: areas to leave out of account.
    """

    name: str
    images: tuple[DatasetImage, ...]
    boxes: dict[str, np.ndarray]
    crowd: dict[str, np.ndarray]

    def limited(self, images: int) -> BoxDataset:
        """At most that many pictures, spread evenly over the list."""
        count = len(self.images)
        if images >= count:
            return self
        return replace(self, images=tuple(self.images[row * count // images] for row in range(images)))


def is_box_dataset(path: Path) -> bool:
    """Whether this is a COCO instances file, or a folder whose ``gt.json`` holds boxes and no queries."""
    file = path / "gt.json" if path.is_dir() else path
    if file.suffix != ".json" or not file.is_file():
        return False
    content = read_json(file)
    return isinstance(content, dict) and "queries" not in content and ("boxes" in content or "annotations" in content)


def open_boxes(path: str | Path, images: str | Path | None = None) -> BoxDataset:
    """Read a folder with ``gt.json``, or a COCO instances JSON.

    images: folder of a COCO file's pictures; without it the file's own folder, ``images`` beside it, or
    ``../<split>`` for ``instances_<split>.json`` is taken, whichever holds the first picture.
    Raises UsageError where the file is damaged or its pictures are nowhere.
    """
    file = Path(path) / "gt.json" if Path(path).is_dir() else Path(path)
    content = read_json(file)
    try:
        return _from_coco(file, content, images) if "annotations" in content else _from_gt(file, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{file}: a field is missing or has a wrong form: {error!r}") from None


def _from_gt(file: Path, content: dict[str, Any]) -> BoxDataset:
    images = tuple(
        DatasetImage(str(i["id"]), file.parent / i["file"], i.get("width"), i.get("height")) for i in content["images"]
    )
    boxes, crowd = (
        {str(image): _array(rows) for image, rows in content.get(part, {}).items()} for part in ("boxes", "crowd")
    )
    return BoxDataset(file.resolve().parent.name, images, boxes, crowd)


def _from_coco(file: Path, content: dict[str, Any], images: str | Path | None) -> BoxDataset:
    names = {str(i["id"]): i for i in content["images"]}
    folder = _picture_folder(file, next(iter(names.values()))["file_name"], images) if names else file.parent
    parts: dict[bool, dict[str, list[list[float]]]] = {False: defaultdict(list), True: defaultdict(list)}
    for annotation in content["annotations"]:
        x, y, width, height = (float(v) for v in annotation["bbox"])
        parts[bool(annotation.get("iscrowd"))][str(annotation["image_id"])].append([x, y, x + width, y + height])
    records = tuple(DatasetImage(i, folder / r["file_name"], r.get("width"), r.get("height")) for i, r in names.items())
    boxes, crowd = ({image: _array(rows) for image, rows in parts[part].items()} for part in (False, True))
    return BoxDataset(file.stem, records, boxes, crowd)


def _picture_folder(file: Path, first: str, given: str | Path | None) -> Path:
    split = file.stem.removeprefix("instances_")
    beside = [file.parent, file.parent / "images", file.parent.parent / split, file.parent.parent / "images" / split]
    places = [Path(given)] if given is not None else beside
    for place in places:
        if (place / first).is_file():
            return place
    raise UsageError(
        f"{file}: its picture {first!r} is in none of {', '.join(map(str, places))}; give the folder of its pictures"
    )


def _array(rows: list[list[float]]) -> np.ndarray:
    return np.asarray(rows, np.float64).reshape(-1, 4)
