"""Queries as users write them: a picture with boxes, or a file of JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_claid.errors import UsageError


@dataclass(frozen=True)
class Query:
    """One question: a picture and boxes in it (x0, y0, x1, y1, pixels); no boxes means the whole picture."""

    id: str
    image: str
    boxes: list[tuple[float, ...]]


def one_query(image: str, boxes: Sequence[str]) -> Query:
    """From the command line; each box "x0,y0,x1,y1". Raises UsageError."""
    return Query(image, image, [box_from_text(text) for text in boxes])


def box_from_text(text: str) -> tuple[float, ...]:
    """ "x0,y0,x1,y1" to four numbers. Raises UsageError."""
    try:
        return checked_numbers([float(part) for part in text.split(",")], text)
    except ValueError as error:
        raise UsageError(f"box {text!r} is not x0,y0,x1,y1") from error


def read_queries(path: Path) -> list[Query]:
    """A file of JSON lines {"id", "image", "box": [...] or null} or "boxes": [[...], ...]; paths relative to it.

    Raises UsageError naming the line at fault, before any query runs.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"queries file {path} cannot be read: {error}") from error
    queries = [
        _from_line(line, f"{path} line {number}", path.parent) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not queries:
        raise UsageError(f"queries file {path} holds no query")
    return queries


def _from_line(line: str, place: str, folder: Path) -> Query:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("image"), str):
        raise UsageError(f'{place}: expected an object with "image": "PATH"')
    boxes = value.get("boxes")
    if boxes is None:
        boxes = [] if value.get("box") is None else [value["box"]]
    if not isinstance(boxes, list):
        raise UsageError(f'{place}: "boxes" must be a list of boxes')
    name = value.get("id", value["image"])
    return Query(str(name), str(folder / value["image"]), [checked_numbers(box, place) for box in boxes])


def checked_numbers(box: Any, place: str) -> tuple[float, ...]:
    """Four finite numbers. Raises UsageError."""
    good = isinstance(box, list) and len(box) == 4
    if not good or not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in box):
        raise UsageError(f"{place}: a box is four numbers x0, y0, x1, y1")
    return tuple(float(value) for value in box)
