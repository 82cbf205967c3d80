"""Labels and facts of images read back from JSON lines, as ``export`` writes them or as somebody edited them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_claid.errors import UsageError
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery

_LONGEST_LINE = 64_000_000  # characters; an image of 100,000 regions takes 15 million
_LONGEST_TEXT = 1_000
_FACTS = ("label", "taken", "latitude", "longitude")


@dataclass(frozen=True)
class Imported:
    """What became of one line. status: "changed", "unchanged" or "rejected" with its reason."""

    line: int
    image: str
    status: str
    reason: str = ""


def import_records(
    gallery: Gallery, path: str, report: Callable[[Imported], None] = lambda outcome: None
) -> dict[str, int]:
    """Take labels, times and places over from a file of JSON lines; counts by status, told after the commit.

    A line names its image by "hash", or by "image" with "root" where several roots have that path. What a line does
    not hold stays as it is; null takes it away. Raises UsageError where the file cannot be read; a line that is wrong
    is rejected and the others go on. All in one transaction.
    """
    outcomes = []
    with gallery.writing() as connection:
        for number, line in _lines(path):
            outcome = _rejecting(gallery, number, line)
            if isinstance(outcome, Imported):
                outcomes.append(outcome)
                continue
            row, facts = outcome
            changed = [name for name in facts if facts[name] != getattr(row, name)]
            for name in changed:
                connection.execute(f"UPDATE images SET {name} = ? WHERE id = ?", (facts[name], row.id))
            outcomes.append(Imported(number, row.path, "changed" if changed else "unchanged"))
    counts = dict.fromkeys(("changed", "unchanged", "rejected"), 0)
    for outcome in outcomes:
        counts[outcome.status] += 1
        report(outcome)
    return counts


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """(number, line) of every line that names an image. Raises UsageError."""
    try:
        with open(path, encoding="utf-8") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if len(line) == _LONGEST_LINE:
                    raise UsageError(f"{path}, line {number}: longer than {_LONGEST_LINE:,} characters")
                if line.strip() and not line.startswith('{"gallery"'):
                    yield number, line
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error


def _rejecting(gallery: Gallery, number: int, line: str) -> Imported | tuple[ImageRow, dict[str, Any]]:
    name = ""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        name = str(record.get("image", ""))
        return _image(gallery, record), _facts(record)
    except (ValueError, RecursionError) as error:
        return Imported(number, name, "rejected", f"line {number}: {error}")


def _image(gallery: Gallery, record: dict[str, Any]) -> ImageRow:
    content_hash, path, root = record.get("hash"), record.get("image"), record.get("root")
    if content_hash is not None:
        row = gallery.image_by_hash(bytes.fromhex(content_hash)) if isinstance(content_hash, str) else None
        if row is None:
            raise ValueError("no image of this content in the gallery")
        return row
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError('neither "hash" nor "image" names an image')
    rows = [row for row in gallery.images_at(os.fsdecode(os.fsencode(path))) if root is None or row.root == root]
    if len(rows) != 1:
        raise ValueError('several roots hold this path: add "root"' if rows else "no such image in the gallery")
    return rows[0]


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    facts = {name: record[name] for name in _FACTS if name in record}
    for name in ("label", "taken"):
        text = facts.get(name)
        if text is not None and (not isinstance(text, str) or len(text) > _LONGEST_TEXT or not text.isprintable()):
            raise ValueError(f"{name} is no line of text of at most {_LONGEST_TEXT:,} characters")
    for name, most in (("latitude", 90), ("longitude", 180)):
        place = facts.get(name)
        number = isinstance(place, int | float) and not isinstance(place, bool) and math.isfinite(place)
        if place is not None and (not number or abs(place) > most):
            raise ValueError(f"{name} is no number of degrees")
    if "label" in facts:
        facts["label"] = facts["label"] or None
    return facts
