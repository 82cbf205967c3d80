"""The ``gt.json`` layout: a folder with one file of images, queries and truth.

``images`` [{id, file, width, height, source}]; ``queries`` [{id, image, box or boxes, source}];
``truth`` {query id: [{image, box or null, ignore}]}. Files are relative to the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_claid.datasets.dataset import Box, Dataset, DatasetImage, Query, Truth
from edge_claid.datasets.files import read_json
from edge_claid.errors import UsageError

FILE = "gt.json"


def recognises(folder: Path) -> bool:
    """Whether the folder holds a ``gt.json`` with queries."""
    file = folder / FILE
    if not file.is_file():
        return False
    content = read_json(file)
    return isinstance(content, dict) and "queries" in content and "truth" in content


def read(folder: Path) -> Dataset:
    """Read the dataset; UsageError where a field is missing or has a wrong form."""
    content = read_json(folder / FILE)
    try:
        images = tuple(
            DatasetImage(str(i["id"]), folder / i["file"], i.get("width"), i.get("height"), i.get("source", ""))
            for i in content["images"]
        )
        queries = tuple(
            Query(str(q["id"]), str(q["image"]), _query_boxes(q), q.get("source", "")) for q in content["queries"]
        )
        truth = {
            str(query): tuple(Truth(str(t["image"]), _box(t.get("box")), bool(t.get("ignore", False))) for t in entries)
            for query, entries in content["truth"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{folder / FILE}: a field is missing or has a wrong form: {error!r}") from None
    return Dataset(folder.resolve().name, images, queries, truth)


def _query_boxes(query: dict[str, Any]) -> tuple[Box, ...] | None:
    boxes = query.get("boxes") or ([query["box"]] if query.get("box") is not None else [])
    read_boxes = tuple(box for box in map(_box, boxes) if box is not None)
    return read_boxes or None


def _box(value: Any) -> Box | None:
    if value is None:
        return None
    x0, y0, x1, y1 = (float(v) for v in value)
    return x0, y0, x1, y1
