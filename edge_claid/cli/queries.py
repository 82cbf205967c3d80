"""Queries as users write them: a picture with boxes, or a file of JSON lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_claid.errors import UsageError
from edge_claid.frames.address import is_live, without_credentials


@dataclass(frozen=True)
class Query:
    """One question: a picture and boxes in it (x0, y0, x1, y1, pixels); no boxes means the whole picture."""

    id: str
    image: str
    boxes: list[tuple[float, ...]]


@dataclass(frozen=True)
class RejectedQuery:
    """A line that is no query. id: its own where it has one, else which line it is."""

    id: str
    reason: str


def one_query(image: str, boxes: Sequence[str]) -> Query:
    """From the command line; each box "x0,y0,x1,y1". Raises UsageError."""
    return Query(image, _picture(image, image), [box_from_text(text) for text in boxes])


def box_from_text(text: str) -> tuple[float, ...]:
    """ "x0,y0,x1,y1" to four numbers. Raises UsageError."""
    try:
        return checked_numbers([float(part) for part in text.split(",")], text)
    except ValueError as error:
        raise UsageError(f"box {text!r} is not x0,y0,x1,y1") from error


def read_queries(path: Path) -> list[Query | RejectedQuery]:
    """A file of JSON lines {"id", "image", "box": [...] or null} or "boxes": [[...], ...]; paths relative to it.

    Raises UsageError where it cannot be read, or holds no line.
    """
    try:
        # Not splitlines: a JSON string may hold what Unicode calls the end of a line. Editors of Windows write a mark.
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UsageError(f"queries file {path} cannot be read: {error.strerror}") from error
    queries = [_from_line(line, number, path.parent) for number, line in enumerate(lines, 1) if line.strip()]
    if not queries:
        raise UsageError(f"queries file {path} holds no query")
    return queries


def _from_line(line: bytes, number: int, folder: Path) -> Query | RejectedQuery:
    name = f"line {number}"
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return RejectedQuery(name, f"not JSON: {error}")
    if isinstance(value, dict) and isinstance(value.get("id"), (str, int, float)):
        name = str(value["id"])
    try:
        return _from_object(value, folder)
    except UsageError as error:
        return RejectedQuery(name, str(error))


def _from_object(value: Any, folder: Path) -> Query:
    if not isinstance(value, dict) or not isinstance(value.get("image"), str):
        raise UsageError('expected an object with "image": "PATH"')
    if value.get("box") is not None and value.get("boxes") is not None:
        raise UsageError('give "box" or "boxes", not both')
    boxes = value.get("boxes")
    if boxes is None:
        boxes = [] if value.get("box") is None else [value["box"]]
    if not isinstance(boxes, list):
        raise UsageError('"boxes" must be a list of boxes')
    name = value.get("id")
    if name is not None and not isinstance(name, (str, int, float)):
        raise UsageError('"id" must be a text or a number')
    image = _picture(value["image"], str(folder / value["image"]))
    named = value["image"] if name is None else str(name)
    return Query(named, image, [checked_numbers(box, f"box {box}") for box in boxes])


def _picture(written: str, path: str) -> str:
    """Path of a query's picture. Raises UsageError where what is written is a camera or a stream."""
    if not written:
        raise UsageError("the picture's name is empty")
    if is_live(written) and not os.path.lexists(path):
        shown = without_credentials(written)
        raise UsageError(f"{shown} is no picture; `edge-claid live {shown} --gallery NAME.claid` looks at a camera")
    return path


def checked_numbers(box: Any, place: str) -> tuple[float, ...]:
    """Four finite numbers. Raises UsageError."""
    good = isinstance(box, list) and len(box) == 4
    if not good or not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in box):
        raise UsageError(f"{place}: a box is four numbers x0, y0, x1, y1")
    return tuple(float(value) for value in box)
