"""A gallery: one SQLite file, ``NAME.claid``, that knows which pipeline made it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from edge_claid.errors import GalleryError, StorageError
from edge_claid.gallery import images, index
from edge_claid.gallery.info import GalleryInfo, read_info
from edge_claid.gallery.storage import connection as opening
from edge_claid.gallery.storage import identity, medium, stored_space
from edge_claid.gallery.storage.batch import Batch, Space
from edge_claid.gallery.storage.connection import transaction
from edge_claid.gallery.storage.failures import plain_errors
from edge_claid.gallery.storage.open_file import OpenFile
from edge_claid.gallery.storage.rows import ImageRow, NewImage, name_bytes
from edge_claid.records import Regions

log = logging.getLogger(__name__)


class Gallery(OpenFile):
    """An open gallery; may be used from several threads. Open it with ``Gallery.open`` in a ``with`` block."""

    def __init__(self, path: str, connection: opening.Connection, read_space: Callable[[bytes], Space]):
        super().__init__(path, connection)
        self.space_reader = read_space
        self._loaded_space: tuple[int, Space] | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: str = "r",
        *,
        wait_seconds: float = 30.0,
        read_space: Callable[[bytes], Space] | None = None,
    ) -> Gallery:
        """Open a gallery: "r" to read, "rw" to write, "create" to write and make it where it is missing.

        wait_seconds: how long to wait for another writer. read_space: bytes to code space; ours where None.
        Raises GalleryError (no gallery, damaged, newer), StorageError (not readable, not writable), UsageError.
        """
        path = os.fspath(path)
        return cls(path, opening.connect(path, mode, wait_seconds), read_space or _space_from_bytes)

    # -- identity

    def bind(
        self,
        pipeline_id: str,
        describe_settings: dict[str, Any],
        descriptor_dim: int,
        keep_descriptors: bool | None = None,
    ) -> None:
        """Make this the gallery of a pipeline, or check that it is. Raises GalleryError naming what differs.

        keep_descriptors: keep float16 descriptors beside the codes from now on; unchanged where None.
        """
        with self._lock, transaction(self._connection, self.path):
            meta = identity.read_meta(self._connection)
            identity.require_same(self.path, meta, pipeline_id, describe_settings)
            if "pipeline_id" not in meta:
                identity.write_meta(
                    self._connection,
                    pipeline_id=pipeline_id,
                    describe_settings=json.dumps(describe_settings, sort_keys=True),
                    descriptor_dim=str(descriptor_dim),
                )
            if keep_descriptors is not None:
                identity.write_meta(self._connection, keep_descriptors="1" if keep_descriptors else "0")

    def require_pipeline(self, pipeline_id: str, describe_settings: dict[str, Any]) -> None:
        """Raises GalleryError naming what differs where another pipeline made this gallery. An empty one fits all."""
        with self._lock, plain_errors(self.path):
            identity.require_same(self.path, identity.read_meta(self._connection), pipeline_id, describe_settings)

    @property
    def descriptor_parts(self) -> list[int]:
        """Lengths of the parts of a descriptor, from different maps; empty where it is one (see fit_whitening)."""
        with self.reading() as connection:
            return identity.parts_from_meta(identity.read_meta(connection))

    def info(self) -> GalleryInfo:
        """Counts and identity, without reading any content."""
        with self.reading() as connection:
            return read_info(connection, self.path)

    # -- images

    def __len__(self) -> int:
        with self.reading() as connection:
            return connection.execute("SELECT count(*) FROM images WHERE displaced = 0").fetchone()[0]

    def images(self, displaced: bool = False) -> Iterator[ImageRow]:
        """Every searched image (or, instead, every displaced one) by id; it may be changed while it is read."""
        last = -1
        while True:
            with self.reading() as connection:
                page = images.page_after(connection, last, displaced)
            yield from page
            if not page:
                return
            last = page[-1].id

    def images_by_id(self, image_ids: Iterable[int]) -> list[ImageRow]:
        """Images of these ids, in this order. Raises GalleryError where one is gone."""
        wanted = [int(image_id) for image_id in image_ids]
        with self.reading() as connection:
            found = images.found_by_id(connection, wanted)
        try:
            return [found[image_id] for image_id in wanted]
        except KeyError as error:
            raise GalleryError(f"gallery {self.path}: an image was removed meanwhile; open the gallery anew") from error

    def image_by_hash(self, content_hash: bytes) -> ImageRow | None:
        """The image of this content, displaced or not."""
        with self.reading() as connection:
            return images.first_where(connection, "i.hash = ?", content_hash)

    def image_by_path(self, root_id: int, path: str) -> ImageRow | None:
        """The searched image at this path of a root."""
        where = "i.root = ? AND i.path = ? AND i.displaced = 0"
        with self.reading() as connection:
            return images.first_where(connection, where, root_id, name_bytes(path))

    def images_at(self, path: str) -> list[ImageRow]:
        """The searched images at this path, one of each root that has it; takes the same time whatever the size."""
        where = "i.root IN (SELECT id FROM roots) AND i.path = ? AND i.displaced = 0"
        with self.reading() as connection:
            return images.all_where(connection, where, name_bytes(path))

    def images_labelled(self, label: str) -> list[ImageRow]:
        """The searched images of this label; takes time with their number only."""
        with self.reading() as connection:
            return images.all_where(connection, "i.label = ? AND i.displaced = 0", label)

    def regions(self, image_id: int) -> Regions:
        """The region tree of one image. Raises GalleryError where it is missing or damaged."""
        try:
            with self.reading() as connection:
                regions = images.regions_of(connection, int(image_id))
        except GalleryError as error:
            raise GalleryError(f"gallery {self.path}, {error}") from error
        if regions is None:
            raise GalleryError(f"gallery {self.path} has no regions for image {image_id}")
        return regions

    # -- changes

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Changes that are committed together when the block ends; none of them where it raises."""
        with self._lock, transaction(self._connection, self.path):
            meta = identity.read_meta(self._connection)
            yield Batch(self._connection, self._active_space(), meta.get("keep_descriptors") == "1")

    def add(self, images: Sequence[NewImage]) -> list[str]:
        """Add pictures in one batch; each one's status as ``Batch.add`` tells it."""
        with self.batch() as batch:
            return [batch.add(image)[0] for image in images]

    def remove(self, image_ids: Iterable[int]) -> int:
        """Remove images in one batch; how many there were."""
        with self.batch() as batch:
            return sum(batch.remove(int(image_id)) for image_id in image_ids)

    def compact(self) -> int:
        """Write the file anew without gaps and displaced images, in the order it is read; bytes saved.

        Raises StorageError where there is not as much free space again.
        """
        before = os.path.getsize(self.path)
        free = medium.free_bytes(self.path)
        if free is not None and free < before:
            raise StorageError(
                f"gallery {self.path}: compaction needs {before:,} bytes of free space beside it and there are "
                f"{free:,}; free some and run it again"
            )
        with self.writing() as connection:
            connection.execute("DELETE FROM images WHERE displaced = 1")
        with self._lock, plain_errors(self.path):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before - os.path.getsize(self.path)

    # -- codes

    @property
    def space(self) -> Space | None:
        """The active code space, or None before there is one."""
        with self._lock, plain_errors(self.path):
            active = self._active_space()
        return active[1] if active else None

    def load_index(self, exact: bool = False) -> index.Index:
        """All that a search scans: codes, or descriptors before there is a code space; with ``exact`` descriptors too.

        Raises GalleryError where it is damaged, or where ``exact`` asks for descriptors that were not kept.
        """
        with self.reading() as connection:
            coded = self._active_space() is not None
            try:
                return index.load(connection, coded, described=exact or not coded)
            except GalleryError as error:
                if exact and coded and not self._all_described():
                    hint = "enrol with --keep-descriptors"
                    raise GalleryError(f"gallery {self.path} does not keep all float descriptors; {hint}") from error
                raise GalleryError(f"gallery {self.path}: {error}") from error

    def descriptors(self, limit: int) -> np.ndarray:
        """(N, D) float16 stored descriptors of images spread evenly over the gallery, N at most about ``limit``."""
        with self.reading() as connection:
            try:
                return index.sample_descriptors(connection, limit)
            except GalleryError as error:
                raise GalleryError(f"gallery {self.path}: {error}") from error

    def adopt_space(
        self, space: Space, keep_descriptors: bool | None = None, advance: Callable[[int], None] = lambda images: None
    ) -> None:
        """Code every image anew in this space, in one transaction, from the stored descriptors.

        keep_descriptors: keep them beside the codes (None: as the gallery is set); else they are dropped.
        advance: told how many more images are coded; nothing is stored before the last.
        Raises GalleryError where an image has no stored descriptors.
        """
        from edge_claid.gallery.recode import recode

        with self._lock:
            with transaction(self._connection, self.path):
                recode(self._connection, self.path, space, keep_descriptors, advance)
            self.forget_space()
            with plain_errors(self.path):
                # A step frees one page and has no row to fetch; only a script is stepped to its end.
                self._connection.executescript("PRAGMA incremental_vacuum")

    # -- inside

    def forget_space(self) -> None:
        """The code space was changed behind the loaded one."""
        with self._lock:
            self._loaded_space = None

    def _all_described(self) -> bool:
        missing = "SELECT 1 FROM images i LEFT JOIN descriptors d ON d.image = i.id WHERE d.image IS NULL LIMIT 1"
        return self._connection.execute(missing).fetchone() is None

    def _active_space(self) -> tuple[int, Space] | None:
        row = stored_space.active(self._connection)
        if row is None:
            return None
        if self._loaded_space is None or self._loaded_space[0] != row[0]:
            self._loaded_space = (row[0], self._read_space(row[0]))
        return self._loaded_space

    def _read_space(self, row: int) -> Space:
        stored = stored_space.read(self._connection)
        assert stored is not None
        space = self.space_reader(stored.content)
        if stored.copied:
            if (stored.row, stored.identity) != (row, space.id):
                raise GalleryError(f"gallery {self.path}: its code space is damaged, and the copy is of another one")
            log.warning(
                "gallery %s: its code space is damaged; its copy in the file is used, and "
                "`edge-claid gallery verify --repair %s` puts it in place",
                self.path,
                self.path,
            )
        return space


def _space_from_bytes(content: bytes) -> Space:
    from edge_claid.codes.space import CodeSpace

    return CodeSpace.from_bytes(content)
