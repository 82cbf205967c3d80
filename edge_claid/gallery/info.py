"""What a gallery is, in figures."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from typing import Any

from edge_claid.gallery.drift import Drift, read_drift
from edge_claid.gallery.storage import identity, stored_space
from edge_claid.gallery.storage.rows import name_from_bytes


@dataclass(frozen=True)
class GalleryInfo:
    """Counts and identity of a gallery. bytes: of the file and its write-ahead log. code_space: id, or None.

    code_bytes: bytes a region's code takes, or None before there is a code space. drift: see edge_claid.gallery.drift.
    """

    path: str
    images: int
    regions: int
    labels: int
    roots: list[str]
    pipeline_id: str | None
    describe_settings: dict[str, Any]
    code_space: str | None
    code_bytes: int | None
    described_images: int
    keep_descriptors: bool
    bytes: int
    drift: Drift | None = None


def read_info(connection: sqlite3.Connection, path: str) -> GalleryInfo:
    """Counts and identity; to be called inside one read transaction."""
    meta = identity.read_meta(connection)
    counts = "SELECT count(*), coalesce(sum(regions), 0), count(DISTINCT label) FROM images WHERE displaced = 0"
    images, regions, labels = connection.execute(counts).fetchone()
    space = stored_space.active(connection)
    sample = "SELECT length(c.content) / i.regions FROM codes c JOIN images i ON i.id = c.image LIMIT 1"
    code_bytes = connection.execute(sample).fetchone()
    roots = [name_from_bytes(row[0]) for row in connection.execute("SELECT name FROM roots ORDER BY id")]
    return GalleryInfo(
        path=path,
        images=images,
        regions=regions,
        labels=labels,
        roots=roots,
        pipeline_id=meta.get("pipeline_id"),
        describe_settings=identity.settings_from_meta(meta),
        code_space=space[1] if space else None,
        code_bytes=code_bytes[0] if code_bytes else None,
        described_images=connection.execute("SELECT count(*) FROM descriptors").fetchone()[0],
        keep_descriptors=meta.get("keep_descriptors") == "1",
        bytes=sum(os.path.getsize(file) for file in (path, path + "-wal") if os.path.exists(file)),
        drift=read_drift(connection),
    )
