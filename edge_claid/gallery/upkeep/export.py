"""A gallery in formats that others read: JSON lines, COCO JSON, and the side file of a faiss index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery
from edge_claid.records import Regions


def image_record(row: ImageRow) -> dict[str, Any]:
    """An image's facts: what ``import`` reads back, by the hash."""
    return {
        "image": row.path,
        "root": row.root,
        "hash": row.content_hash.hex(),
        "size": row.size,
        "width": row.width,
        "height": row.height,
        "label": row.label,
        "taken": row.taken,
        "latitude": row.latitude,
        "longitude": row.longitude,
    }


def gallery_records(gallery: Gallery, rows: Iterable[ImageRow]) -> Iterator[dict[str, Any]]:
    """First ``{"gallery": …}``, then an object per image with its regions, root region first.

    A region: box (pixels), parent (index of a region, -1 for the root), depth, area (tokens), energy, connectivity.
    """
    info = gallery.info()
    yield {
        "gallery": {
            "images": info.images,
            "regions": info.regions,
            "pipeline_id": info.pipeline_id,
            "describe_settings": info.describe_settings,
            "code_space": info.code_space,
        }
    }
    for row in rows:
        yield image_record(row) | {"regions": _regions(gallery.regions(row.id))}


def write_lines(records: Iterable[dict[str, Any]], file: IO[str]) -> None:
    """A line of JSON each."""
    for record in records:
        file.write(as_text(record) + "\n")


def write_coco(gallery: Gallery, rows: Iterable[ImageRow], file: IO[str]) -> None:
    """COCO's detection format: every region is an annotation, its category the image's label.

    Annotations carry ``region`` and ``parent``, the place of a region and of its parent in the image's tree. Source of
    the format: cocodataset.org, "Data format".
    """
    categories: dict[str, int] = {}
    listed = list(rows)
    file.write('{"info": ' + as_text({"description": gallery.path, "version": "1.0"}) + ',\n"images": [')
    for place, row in enumerate(listed):
        image = {"id": row.id, "file_name": row.path, "root": row.root, "width": row.width, "height": row.height}
        file.write((",\n" if place else "\n") + as_text(image))
    file.write('\n],\n"annotations": [')
    number = 0
    for row in listed:
        category = categories.setdefault(row.label or "unlabelled", len(categories) + 1)
        for annotation in _annotations(row, gallery.regions(row.id), category):
            number += 1
            file.write((",\n" if number > 1 else "\n") + as_text({"id": number} | annotation))
    named = [{"id": number, "name": name} for name, number in categories.items()]
    file.write('\n],\n"categories": ' + as_text(named) + "}\n")


def index_records(gallery: Gallery) -> Iterator[dict[str, Any]]:
    """What the rows of an exported index are, in its order: ``first`` row, and a box for each row of the image."""
    index = gallery.load_index()
    ids = index.image_ids.tolist()
    for place, row in enumerate(gallery.images_by_id(ids)):
        first, stop = int(index.starts[place]), int(index.starts[place + 1])
        boxes = [[_short(value) for value in box] for box in gallery.regions(row.id).boxes.tolist()]
        assert len(boxes) == stop - first
        yield {"first": first, "image": row.path, "root": row.root, "label": row.label, "boxes": boxes}


def as_text(value: Any) -> str:
    """JSON on one line; escaped where a name is no UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def _regions(regions: Regions) -> list[dict[str, Any]]:
    return [
        {
            "box": [_short(value) for value in regions.boxes[i].tolist()],
            "parent": int(regions.parents[i]),
            "depth": int(regions.depths[i]),
            "area": int(regions.areas[i]),
            "energy": round(float(regions.energy[i]), 5),
            "connectivity": round(float(regions.connectivity[i]), 5),
        }
        for i in range(len(regions))
    ]


def _annotations(row: ImageRow, regions: Regions, category: int) -> Iterator[dict[str, Any]]:
    for i, (x0, y0, x1, y1) in enumerate(regions.boxes.tolist()):
        width, height = _short(x1 - x0), _short(y1 - y0)
        yield {
            "image_id": row.id,
            "category_id": category,
            "bbox": [_short(x0), _short(y0), width, height],
            "area": _short(width * height),
            "iscrowd": 0,
            "region": i,
            "parent": int(regions.parents[i]),
        }


def _short(value: float) -> float:
    return round(value, 2)
