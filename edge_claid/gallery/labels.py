"""Labels for pictures: one text for all, a CSV table, or the name of the folder a picture lies in."""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_claid.errors import UsageError
from edge_claid.gallery.store import Gallery

_PATH_HEADINGS = {"file", "path", "image", "filename"}
_MOST_BYTES = 256_000_000


@dataclass(frozen=True)
class Labels:
    """Where labels come from; a given text beats the table, which beats the folder's name.

    text: for every picture. table: path to label; paths relative to the enrolment root, or absolute.
    """

    text: str | None = None
    table: dict[str, str] = field(default_factory=dict)

    def given(self, relative: str, path: str) -> str | None:
        """The label the user gave for a picture, or None."""
        if self.text is not None:
            return self.text
        return self.table.get(relative) or self.table.get(path)

    def label(self, relative: str, path: str) -> str | None:
        """The label a newly enrolled picture gets, or None."""
        return self.given(relative, path) or folder_label(relative)


def folder_label(relative: str) -> str | None:
    """Name of the folder right above a picture; None directly under the root or where the name is no text."""
    name = posixpath.basename(posixpath.dirname(relative))
    return name if name and name.isprintable() else None


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read ``path,label`` lines (comma, semicolon or tab; UTF-8; a heading line is optional).

    Paths are relative to the enrolment root, to the table's own folder, or absolute.
    Raises UsageError where the file cannot be read or a line has no label column.
    """
    name = os.fspath(path)
    try:
        if os.path.getsize(name) > _MOST_BYTES:
            raise UsageError(f"label table {name} is larger than {_MOST_BYTES:,} bytes")
        with open(name, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"label table {name} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"label table {name} is no UTF-8 text: {error}") from error
    table: dict[str, str] = {}
    folder = os.path.dirname(os.path.abspath(name))
    for number, cells in _lines(text, name):
        if len(cells) < 2:
            raise UsageError(f"label table {name}, line {number}: expected a path and a label, got {cells}")
        given, label = cells[0].strip(), cells[1].strip()
        if number == 1 and given.lower() in _PATH_HEADINGS:
            continue
        if label:
            table[posixpath.normpath(given.replace("\\", "/"))] = label
            table.setdefault(os.path.normpath(os.path.join(folder, given)), label)
    return Labels(table=table)


def _lines(text: str, name: str) -> list[tuple[int, list[str]]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UsageError(f"label table {name}, line {reader.line_num}: {error}") from error


def ids_of_labels(gallery: Gallery, labels: Sequence[str]) -> list[int]:
    """Ids of the searched images that carry any of these labels, ascending."""
    query = f"SELECT id FROM images WHERE label IN ({','.join('?' * len(labels))}) AND displaced = 0 ORDER BY id"
    with gallery.reading() as connection:
        return [row[0] for row in connection.execute(query, tuple(labels))]
