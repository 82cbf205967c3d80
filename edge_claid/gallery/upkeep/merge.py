"""Galleries of one pipeline become one. Everything that could refuse is looked at before anything is written.

One transaction per source: an interrupted merge leaves whole sources in or out, and the same call goes on where it
ended, since an image that is there already, by its content, is not added again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_claid.errors import GalleryError, UsageError
from edge_claid.gallery.recode import recode
from edge_claid.gallery.storage import identity, stored_space
from edge_claid.gallery.storage.batch import Space, write_codes
from edge_claid.gallery.storage.rows import ImageRow, matrix_from_bytes, name_bytes
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.merge_roots import Places
from edge_claid.gallery.upkeep.verify import verify

# What an empty gallery takes over of a source; the rest of its notes are about its own images.
_IDENTITY = ("pipeline_id", "describe_settings", "descriptor_dim", "keep_descriptors")


@dataclass(frozen=True)
class Merged:
    """What became of one image of a source. image, root: as the source has them.

    status: "added"; "replaced": it is newer than what its place held; "known": its content is there already; "older":
    its place holds a newer picture, which stays. reason: what else is to be told.
    """

    image: str
    root: str
    status: str
    reason: str = ""


@dataclass
class MergeSummary:
    """Counts of one source. without_descriptors: added images whose float descriptors the source did not keep."""

    source: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("added", "replaced", "known", "older"), 0))
    recoded: bool = False
    without_descriptors: int = 0


def merge(
    into: Gallery, sources: Sequence[Gallery], report: Callable[[Merged], None] = lambda outcome: None
) -> list[MergeSummary]:
    """Copy the searched images of the sources into a gallery; ``report`` is called after a source's commit.

    Codes are copied where the code spaces are the same; else they are made anew from stored float descriptors.
    Raises GalleryError where a source is damaged, of another pipeline, or lacks descriptors that are needed, and
    UsageError for a gallery merged into itself; nothing has been written then.
    """
    _require_mergeable(into, sources)
    summaries = []
    for source in sources:
        with source.reading() as theirs, into.writing() as ours:
            outcomes, summary = _Merge(into, ours, source, theirs).run()
        into.forget_space()
        for outcome in outcomes:
            summary.counts[outcome.status] += 1
            report(outcome)
        summaries.append(summary)
    return summaries


def _require_mergeable(into: Gallery, sources: Sequence[Gallery]) -> None:
    with into.reading() as connection:
        meta = identity.read_meta(connection)
    space = into.space
    for source in sources:
        if os.path.samefile(source.path, into.path):
            raise UsageError(f"{source.path} cannot be merged into itself")
        problem = next(verify(source), None)
        if problem is not None:
            raise GalleryError(
                f"gallery {source.path} is damaged ({problem.what}); "
                f"`edge-claid gallery verify --repair {source.path}` first. Nothing was merged"
            )
        with source.reading() as connection:
            theirs = identity.read_meta(connection)
        if "pipeline_id" not in meta:
            meta = theirs
        elif "pipeline_id" in theirs:
            _require_one_pipeline(into, meta, source, theirs)
        if space is None:
            space = source.space
        elif source.space is None or source.space.id != space.id:
            _require_descriptors(into, source)


def _require_one_pipeline(into: Gallery, ours: dict[str, str], source: Gallery, theirs: dict[str, str]) -> None:
    if ours["pipeline_id"] == theirs["pipeline_id"]:
        return
    here, there = identity.settings_from_meta(ours), identity.settings_from_meta(theirs)
    differing = identity.differences(here, there, other="there") or ["pipeline id"]
    raise GalleryError(
        f"gallery {source.path} belongs to another pipeline than {into.path} ({'; '.join(differing[:6])}); "
        f"move it with `edge-claid gallery reencode {source.path}` first. Nothing was merged"
    )


def _require_descriptors(into: Gallery, source: Gallery) -> None:
    """Another code space: what is to be added has to be coded anew."""
    query = (
        "SELECT i.hash FROM images i LEFT JOIN descriptors d ON d.image = i.id"
        " WHERE d.image IS NULL AND i.displaced = 0"
    )
    with source.reading() as connection:
        lacking = [row[0] for row in connection.execute(query)]
    missing = sum(into.image_by_hash(content_hash) is None for content_hash in lacking)
    if missing:
        raise GalleryError(
            f"gallery {source.path} has another code space than {into.path} and {missing} of its images keep no float "
            f"descriptors to be coded anew; `edge-claid gallery reencode {source.path}` with --keep-descriptors makes "
            "them from the pictures, or merge the other way round where the other one keeps them. Nothing was merged"
        )


class _Merge:
    """One source, inside one transaction."""

    def __init__(self, into: Gallery, ours: sqlite3.Connection, source: Gallery, theirs: sqlite3.Connection):
        self._into, self._ours, self._source, self._theirs = into, ours, source, theirs
        self._summary = MergeSummary(source.path)

    def run(self) -> tuple[list[Merged], MergeSummary]:
        self._settle_identity()
        fresh = self._settle_space()
        self._places = Places(self._into, self._ours, self._source)
        outcomes = [self._take(row) for row in self._source.images()]
        if fresh:
            # Its own images are what this code book was trained on.
            self._ours.execute("UPDATE code_spaces SET newest = (SELECT max(id) FROM images)")
            stored_space.seal(self._ours)
        return outcomes, self._summary

    def _settle_identity(self) -> None:
        ours, theirs = identity.read_meta(self._ours), identity.read_meta(self._theirs)
        if "pipeline_id" not in ours:
            identity.write_meta(self._ours, **{key: theirs[key] for key in _IDENTITY if key in theirs})
        elif "pipeline_id" in theirs:
            _require_one_pipeline(self._into, ours, self._source, theirs)
        self._keep = identity.read_meta(self._ours).get("keep_descriptors") == "1"

    def _settle_space(self) -> bool:
        """Decide how codes come over; True where an empty gallery took the source's code space."""
        self._into.forget_space()
        empty = self._ours.execute("SELECT 1 FROM images LIMIT 1").fetchone() is None
        theirs = self._source.space
        adopted = self._into.space is None and theirs is not None
        if adopted:
            assert theirs is not None
            recode(self._ours, self._into.path, theirs, None)
            self._into.forget_space()
            if empty:
                error = self._theirs.execute("SELECT error FROM code_spaces WHERE active = 1").fetchone()
                self._ours.execute("UPDATE code_spaces SET error = ?", error)
        active, space = stored_space.active(self._ours), self._into.space
        self._space: tuple[int, Space] | None = None if active is None or space is None else (active[0], space)
        self._copies_codes = space is not None and theirs is not None and theirs.id == space.id
        self._summary.recoded = space is not None and not self._copies_codes
        if self._summary.recoded:
            _require_descriptors(self._into, self._source)
        return adopted and empty

    def _take(self, row: ImageRow) -> Merged:
        known = self._into.image_by_hash(row.content_hash)
        if known is not None and not known.displaced:
            return Merged(row.path, row.root, "known", self._fill(known, row))
        root = self._places.root_for(row)
        held = self._into.image_by_path(root, row.path)
        if held is not None:
            if held.mtime_ns >= row.mtime_ns:
                return Merged(row.path, row.root, "older", "its place holds a newer picture")
            self._ours.execute("DELETE FROM images WHERE id = ?", (held.id,))
        if known is not None:
            self._ours.execute(
                "UPDATE images SET root = ?, path = ?, size = ?, mtime_ns = ?, displaced = 0 WHERE id = ?",
                (root, name_bytes(row.path), row.size, row.mtime_ns, known.id),
            )
            self._fill(known, row)
        else:
            self._copy(row, root)
        return Merged(row.path, row.root, "added" if held is None else "replaced")

    def _fill(self, known: ImageRow, row: ImageRow) -> str:
        """What the source knows beyond us; where both know something, ours stays."""
        self._ours.execute(
            "UPDATE images SET label = coalesce(label, ?), taken = coalesce(taken, ?),"
            " latitude = coalesce(latitude, ?), longitude = coalesce(longitude, ?) WHERE id = ?",
            (row.label, row.taken, row.latitude, row.longitude, known.id),
        )
        if known.label is None and row.label is not None:
            return f"label {row.label} taken over"
        if row.label is not None and row.label != known.label:
            return f"label stays {known.label}, there it is {row.label}"
        return ""

    def _copy(self, row: ImageRow, root: int) -> None:
        place = (root, name_bytes(row.path), row.content_hash, row.size, row.mtime_ns)
        facts = (row.width, row.height, row.regions, row.label, row.taken, row.latitude, row.longitude)
        added = self._ours.execute(
            "INSERT INTO images (root, path, hash, size, mtime_ns, width, height, regions, label, taken, latitude,"
            " longitude) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (*place, *facts),
        ).lastrowid
        assert added is not None
        for table in ("regions", "masks"):
            content = self._content(table, row.id)
            assert content is not None
            self._insert(table, (added, *content[1:]))
        descriptors = self._content("descriptors", row.id)
        if self._copies_codes:
            codes = self._content("codes", row.id)
            assert codes is not None
            assert self._space is not None
            self._insert("codes", (added, self._space[0], *codes[2:]))
        elif self._space is not None:
            assert descriptors is not None
            values = matrix_from_bytes(descriptors[1], row.regions, "<f2").astype(np.float32)  # type: ignore[arg-type]
            write_codes(self._ours, added, self._space, values)
        if descriptors is not None and (self._keep or self._space is None):
            self._insert("descriptors", (added, *descriptors[1:]))
        elif self._keep:
            self._summary.without_descriptors += 1

    def _content(self, table: str, image_id: int) -> tuple[object, ...] | None:
        row: tuple[object, ...] | None = self._theirs.execute(
            f"SELECT * FROM {table} WHERE image = ?", (image_id,)
        ).fetchone()
        return row

    def _insert(self, table: str, row: tuple[object, ...]) -> None:
        self._ours.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
