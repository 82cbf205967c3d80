"""Finding a dataset's pictures and reading its text files, with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edge_claid.datasets.dataset import Box, DatasetImage
from edge_claid.errors import UsageError

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def pictures(folder: Path) -> list[Path]:
    """All picture files below a folder, in the order of their paths."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())


def pictures_by_stem(folder: Path) -> dict[str, Path]:
    """Pictures below a folder by their name without extension; UsageError where two have the same."""
    found: dict[str, Path] = {}
    for path in pictures(folder):
        if path.stem in found:
            raise UsageError(f"{path} and {found[path.stem]} have the same name; this layout needs unique names")
        found[path.stem] = path
    return found


def dataset_images(paths: dict[str, Path], source: str = "") -> tuple[DatasetImage, ...]:
    """One image record for each id and file."""
    return tuple(DatasetImage(image_id, path, source=source) for image_id, path in paths.items())


def lines(file: Path) -> Iterator[list[str]]:
    """The fields of every line that is not blank; UsageError where the file cannot be read."""
    try:
        text = file.read_text(encoding="utf-8", errors="strict")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error}); fetch the dataset anew") from None
    for line in text.splitlines():
        if fields := line.split():
            yield fields


def read_json(file: Path) -> Any:
    """Parse a JSON file; UsageError where it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as JSON ({error}); fetch the dataset anew") from None


def numbers(fields: Iterable[str], file: Path, count: int = 4) -> tuple[float, ...]:
    """That many numbers; UsageError names the file and what stands there."""
    values = list(fields)
    try:
        read = tuple(float(value) for value in values)
    except ValueError:
        read = ()
    if len(read) != count:
        raise UsageError(f"{file}: expected {count} numbers, found {' '.join(values)!r}; fetch the dataset anew")
    return read


def box_from_corner_and_size(fields: Iterable[str], file: Path) -> Box:
    """x, y, width, height to x0, y0, x1, y1."""
    x, y, width, height = numbers(fields, file)
    return x, y, x + width, y + height


def box_from_corners(fields: Iterable[str], file: Path) -> Box:
    """x0, y0, x1, y1 as they stand."""
    x0, y0, x1, y1 = numbers(fields, file)
    return x0, y0, x1, y1
