"""A gallery moves to another pipeline: described anew from its pictures, then changed over in one transaction.

The new descriptions grow in a gallery of their own beside the old one, so an interrupted move goes on where it ended
and the old gallery answers until the new one is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from urllib.parse import quote

from edge_claid.errors import GalleryError, StorageError
from edge_claid.gallery.clips import file_of
from edge_claid.gallery.enrolment.enroll import Describer, EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome, Summary
from edge_claid.gallery.enrolment.survey import FileSource
from edge_claid.gallery.lookup import calibration
from edge_claid.gallery.roots import Root, all_roots
from edge_claid.gallery.storage import identity
from edge_claid.gallery.storage.replace import remove_database
from edge_claid.gallery.store import Gallery

_CONTENT = ("codes", "descriptors", "masks", "regions")
_SPACES = ("code_spaces", "space_copies")


def enrolled_files(gallery: Gallery) -> list[tuple[Root, list[str]]]:
    """Every root with the files of its images, to be read again; a video once for all its key frames."""
    roots = {root.id: root for root in all_roots(gallery)}
    files: dict[int, dict[str, None]] = {}
    for row in gallery.images():
        location = roots[row.root_id].location
        file = file_of(os.path.join(location, row.path))
        files.setdefault(row.root_id, {})[os.path.relpath(file, location)] = None
    return [(root, list(files[root.id])) for root in roots.values() if root.id in files]


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
    summary, fresh_hashes = _described_anew(gallery, beside, sources, pipeline, options, report)
    missing = [row for row in gallery.images() if row.content_hash not in fresh_hashes]
    if missing and not drop_missing:
        first = f"{missing[0].root}/{missing[0].path}"
        raise GalleryError(
            f"gallery {gallery.path}: the pictures of {len(missing)} images are gone or changed (first: {first}); "
            "bring them back, or remove those images with --drop-missing. Nothing was changed"
        )
    _change_over(gallery, beside)
    remove_database(beside)
    return summary


def _described_anew(
    gallery: Gallery,
    beside: str,
    sources: Sequence[FileSource],
    pipeline: Describer,
    options: EnrollOptions,
    report: Callable[[Outcome], None],
) -> tuple[Summary, set[bytes]]:
    """Enrolment into the gallery ``beside``, and the hashes of what it holds; one that was refused leaves no file."""
    made, refused = not os.path.lexists(beside), False
    try:
        with Gallery.open(beside, "create", read_space=gallery.space_reader) as fresh:
            try:
                summary = enroll(fresh, sources, pipeline, options, report)
            except StorageError:
                # Known to be this run's own, and empty: what was described may have taken hours.
                refused = made and len(fresh) == 0
                raise
            return summary, {row.content_hash for row in fresh.images()}
    finally:
        if refused:
            remove_database(beside)


def _forget_other_pipeline(beside: str, pipeline: Describer) -> None:
    """A half-done move to a third pipeline is of no use."""
    if os.path.exists(beside):
        try:
            with Gallery.open(beside, "r") as earlier:
                earlier.require_pipeline(pipeline.id, pipeline.describe_settings)
        except GalleryError:
            remove_database(beside)


def _change_over(gallery: Gallery, beside: str) -> None:
    uri = "file:" + quote(os.fsencode(os.path.abspath(beside))) + "?mode=ro"
    with gallery.attached(uri, "fresh"), gallery.writing() as connection:
        run = connection.execute
        for table in (*_CONTENT, *reversed(_SPACES)):
            run(f"DELETE FROM {table}")
        run("DELETE FROM images WHERE hash NOT IN (SELECT hash FROM fresh.images)")
        for table in _SPACES:
            run(f"INSERT INTO {table} SELECT * FROM fresh.{table}")
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
        for table in _SPACES:
            run(f"UPDATE {table} SET newest = (SELECT max(id) FROM images)")
        meta = dict(run("SELECT key, value FROM fresh.meta").fetchall())
        calibration.forget(connection)
        # Other notes name its roots by their ids there.
        identity.write_meta(connection, **{key: value for key, value in meta.items() if "." not in key})
    gallery.forget_space()
