"""Whose folder is whose: the roots of a gallery that is merged into another.

Two devices may have folders of one name at one place that have nothing to do with each other, or the same stick at two
places. Roots are the same where both know their volume and it is one, or where most of the paths they share hold the
same content; all others are kept apart, under names of their own.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter

from edge_claid.gallery.clips import note_spacing, spacing
from edge_claid.gallery.roots import Root, all_roots
from edge_claid.gallery.storage.rows import ImageRow, name_bytes
from edge_claid.gallery.store import Gallery


class Places:
    """Roots of one source in the gallery it is merged into; a root is made when its first image comes."""

    def __init__(self, into: Gallery, ours: sqlite3.Connection, source: Gallery):
        self._into, self._ours = into, ours
        self._source = source
        self._theirs = {root.id: root for root in all_roots(source)}
        self._found: dict[int, int] = {}
        self._alike = _alike(ours, source)

    def root_for(self, row: ImageRow) -> int:
        """Id of the root, here, of an image of the source."""
        if row.root_id not in self._found:
            root = self._theirs[row.root_id]
            same = self._same(root)
            self._found[root.id] = self._new(root) if same is None else same
        return self._found[row.root_id]

    def _same(self, root: Root) -> int | None:
        mine = all_roots(self._into)
        for one in mine:
            if root.volume and one.volume == root.volume:
                return one.id
        shared = [
            (self._alike[root.id, one.id, True], one.id)
            for one in mine
            if not (root.volume and one.volume)
            and self._alike[root.id, one.id, True] > self._alike[root.id, one.id, False]
        ]
        return max(shared)[1] if shared else None

    def _new(self, root: Root) -> int:
        taken = {one.name for one in all_roots(self._into)}
        stem = os.path.splitext(os.path.basename(self._source.path))[0]
        name, number = root.name, 1
        while name in taken:
            name = f"{root.name} ({stem})" if number == 1 else f"{root.name} ({stem} {number})"
            number += 1
        added = self._ours.execute(
            "INSERT INTO roots (name, location, volume) VALUES (?,?,?)",
            (name_bytes(name), name_bytes(root.location), root.volume),
        ).lastrowid
        assert added is not None
        every = spacing(self._source, root.id)
        if every is not None:
            note_spacing(self._ours, added, every)
        return added


def _alike(ours: sqlite3.Connection, source: Gallery) -> Counter[tuple[int, int, bool]]:
    """(their root, our root, same content) to how many paths they share."""
    counts: Counter[tuple[int, int, bool]] = Counter()
    query = "SELECT root, hash FROM images WHERE root IN (SELECT id FROM roots) AND path = ? AND displaced = 0"
    for row in source.images():
        for root, content_hash in ours.execute(query, (name_bytes(row.path),)):
            counts[row.root_id, root, content_hash == row.content_hash] += 1
    return counts
