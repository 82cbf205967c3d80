"""A gallery moves to another pipeline: described anew from its pictures, then changed over in one transaction.

The new descriptions grow in a gallery of their own beside the old one, so an interrupted move goes on where it ended
and the old gallery answers until the new one is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from urllib.parse import quote

from edge_claid.errors import GalleryError
from edge_claid.gallery import identity
from edge_claid.gallery.connection import plain_errors
from edge_claid.gallery.enroll import Describer, EnrollOptions, enroll
from edge_claid.gallery.outcome import Outcome, Summary
from edge_claid.gallery.roots import Root, all_roots
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.survey import FileSource

_CONTENT = ("codes", "descriptors", "masks", "regions")


def enrolled_files(gallery: Gallery) -> list[tuple[Root, list[str]]]:
    """Every root with the paths of its images, to be read again."""
    paths: dict[int, list[str]] = {}
    for row in gallery.images():
        paths.setdefault(row.root_id, []).append(row.path)
    return [(root, paths[root.id]) for root in all_roots(gallery) if root.id in paths]


def reencode(
    gallery: Gallery,
    sources: Sequence[FileSource],
    pipeline: Describer,
    options: EnrollOptions,
    drop_missing: bool = False,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> Summary:
    """Describe all images with ``pipeline`` and change the gallery over to it.

    sources: the pictures behind the gallery (see ``enrolled_files``). Raises GalleryError where the picture of an
    image is gone or has changed, unless ``drop_missing`` removes such images.
    """
    beside = gallery.path + ".reencoding"
    _forget_other_pipeline(beside, pipeline)
    with Gallery.open(beside, "create", read_space=gallery.space_reader) as fresh:
        summary = enroll(fresh, sources, pipeline, options, report)
        fresh_hashes = {row.content_hash for row in fresh.images()}
    missing = [row for row in gallery.images() if row.content_hash not in fresh_hashes]
    if missing and not drop_missing:
        first = f"{missing[0].root}/{missing[0].path}"
        raise GalleryError(
            f"gallery {gallery.path}: the pictures of {len(missing)} images are gone or changed (first: {first}); "
            "bring them back, or remove those images with --drop-missing. Nothing was changed"
        )
    _change_over(gallery, beside)
    _delete(beside)
    return summary


def _forget_other_pipeline(beside: str, pipeline: Describer) -> None:
    """A half-done move to a third pipeline is of no use."""
    if os.path.exists(beside):
        try:
            with Gallery.open(beside, "r") as earlier:
                earlier.require_pipeline(pipeline.id, pipeline.describe_settings)
        except GalleryError:
            _delete(beside)


def _change_over(gallery: Gallery, beside: str) -> None:
    uri = "file:" + quote(os.fsencode(os.path.abspath(beside))) + "?mode=ro"
    with gallery.attached(uri, "fresh"), gallery.writing() as connection:
        run = connection.execute
        for table in (*_CONTENT, "code_spaces"):
            run(f"DELETE FROM {table}")
        run("DELETE FROM images WHERE hash NOT IN (SELECT hash FROM fresh.images)")
        run("INSERT INTO code_spaces SELECT * FROM fresh.code_spaces")
        for table, columns in (
            ("regions", "t.boxes, t.tree, t.checksum"),
            ("masks", "t.rows, t.columns, t.packed, t.checksum"),
            ("descriptors", "t.content, t.checksum"),
            ("codes", "t.space, t.content, t.checksum, t.residual"),
        ):
            run(
                f"INSERT INTO {table} SELECT i.id, {columns} FROM images i"
                f" JOIN fresh.images f ON f.hash = i.hash JOIN fresh.{table} t ON t.image = f.id ORDER BY i.id"
            )
        run("UPDATE images SET regions = (SELECT f.regions FROM fresh.images f WHERE f.hash = images.hash)")
        # Ids of the fresh gallery mean nothing here.
        run("UPDATE code_spaces SET newest = (SELECT max(id) FROM images)")
        meta = dict(run("SELECT key, value FROM fresh.meta").fetchall())
        identity.write_meta(connection, **meta)
    gallery.forget_space()


def _delete(path: str) -> None:
    with plain_errors(path):
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path + suffix)
