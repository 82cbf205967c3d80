"""What the routes do with the gallery, in worker threads: search it, enrol into it, browse it, remove from it."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from edge_claid.errors import BadImageError, GalleryError, StorageError, UsageError
from edge_claid.frames.folder import single_file
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.images import newest_before
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.lookup.region_lookup import look_up
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery
from edge_claid.live.holdings import Holdings, WatchedGallery
from edge_claid.pipeline import Pipeline, checked_box
from edge_claid.records import Descriptors, Frame, Hit
from edge_claid.web.pictures import SIDES, GalleryPictures, jpeg_of

MOST_HITS, MOST_LISTED, LONGEST_LABEL = 100, 200, 200
SMALLEST_CROP = 16  # pixels a side; the readers refuse smaller pictures
WRITER_SECONDS = 10.0  # how long a change waits for another writer


class NotThereError(UsageError):
    """An image that the gallery does not, or no longer, hold."""


class GalleryService:
    """The gallery behind the page. watched: the open gallery; pipeline: what describes pictures for it.

    Pictures enrolled from the page are kept as files in the folder ``NAME.pictures`` beside ``NAME.claid``.
    """

    def __init__(self, path: Path, pipeline: Pipeline, watched: WatchedGallery) -> None:
        self.path, self.pipeline, self.watched = path, pipeline, watched
        self.folder = path.with_name(f"{path.stem}.pictures")
        self._pictures = GalleryPictures()
        self._writing = threading.Lock()

    def info(self) -> dict[str, Any]:
        """What the page says of the gallery."""
        items = list(self.watched.holdings.items.values())
        labels = sorted({item.label for item in items if item.label}, key=str.casefold)
        facts = {"name": self.path.name, "images": len(items), "labels": labels, "pictures": self.folder.name}
        return facts | {"version": self.watched.version}

    # -- reading

    def search(self, frame: Frame, box: Sequence[float] | None, k: int) -> dict[str, Any]:
        """The k best images for an object. Raises UsageError for a box outside the picture."""
        start = time.perf_counter()
        asked = self.pipeline.describe(frame, box=box)
        described = time.perf_counter()
        holdings, k = self.watched.holdings, min(max(k, 1), MOST_HITS)
        try:
            hits = holdings.search.query(asked, k)
            rows = _rows_of(self.watched.gallery, hits)
            found = [hit_json(hit, row) for hit, row in zip(hits, rows, strict=True) if row is not None]
        except (GalleryError, StorageError):
            found = _from_memory(holdings, asked, k)
        return {
            "hits": found,
            "images": len(holdings.items),
            "seconds": round(time.perf_counter() - start, 4),
            "search_seconds": round(time.perf_counter() - described, 4),
        }

    def page(self, before: int | None, limit: int, text: str) -> dict[str, Any]:
        """Images, the newest first, from the one before id ``before`` on; those whose label or path holds the text."""
        gallery, limit = self.watched.gallery, min(max(limit, 1), MOST_LISTED)
        with gallery.reading() as connection:
            rows = newest_before(connection, before, limit + 1, text)
        more = len(rows) > limit
        rows = rows[:limit]
        return {"images": [row_json(row) for row in rows], "next": rows[-1].id if more else None}

    def picture(self, image_id: int, side: int) -> tuple[bytes, str]:
        """An enrolled picture as JPEG, and a name of its content for caches. Raises NotThereError, BadImageError."""
        row = self._row(image_id)
        side = min((size for size in SIDES if size >= side), default=SIDES[-1])
        return self._pictures.jpeg(self.watched.gallery, row, side), f"{row.content_hash.hex()[:24]}-{side}"

    # -- changing

    def enroll(self, frame: Frame, box: Sequence[float] | None, label: str) -> dict[str, Any]:
        """Store the picture, or the box cut out of it, as a file and enrol it under this name.

        Raises UsageError, BadImageError, GalleryError, StorageError; nothing is left behind then.
        """
        label = checked_label(label)
        pixels = frame.pixels
        if box is not None:
            x0, y0, x1, y1 = (round(value) for value in checked_box(box, frame))
            pixels = pixels[y0:y1, x0:x1]
        if min(pixels.shape[:2]) < SMALLEST_CROP:
            raise BadImageError(f"the box is too small to be learned: at least {SMALLEST_CROP} pixels a side")
        content = jpeg_of(pixels, max(pixels.shape[:2]), quality=95)
        with self._writing:
            file = self._stored(content, label)
            try:
                row, status = self._enrolled(file, label)
            except BaseException:
                file.unlink(missing_ok=True)
                raise
            if row.path != file.name:
                # The very same picture was there before, under another file.
                file.unlink(missing_ok=True)
        self.watched.poll()
        return {"image": row_json(row), "status": status, "file": f"{self.folder.name}/{row.path}"}

    def remove(self, image_id: int) -> dict[str, Any]:
        """Take an image out of the gallery; its file too where this page had stored it. Raises NotThereError."""
        row = self._row(image_id)
        with self._writing:
            own = self._own_file(row)
            with self._open() as gallery:
                gallery.remove([self._current(gallery, row).id])
            if own is not None:
                with contextlib.suppress(OSError):
                    own.unlink()
        self.watched.poll()
        return {"removed": row_json(row), "file_removed": own is not None}

    def rename(self, image_id: int, label: str) -> dict[str, Any]:
        """Give an image another name. Raises UsageError for one that is none, NotThereError."""
        row, label = self._row(image_id), checked_label(label)
        with self._writing, self._open() as gallery:
            current = self._current(gallery, row)
            with gallery.batch() as batch:
                batch.label(current.id, label)
            renamed = gallery.images_by_id([current.id])[0]
        self.watched.poll()
        return {"image": row_json(renamed)}

    # -- inside

    def _current(self, gallery: Gallery, row: ImageRow) -> ImageRow:
        """An image as it stands in the file now. By content: the file may have been replaced by another gallery, whose
        ids mean other pictures. Raises GalleryError, NotThereError."""
        gallery.require_pipeline(self.pipeline.id, self.pipeline.describe_settings)
        current = gallery.image_by_hash(row.content_hash)
        if current is None:
            raise NotThereError(f"image {row.id} is no longer in the gallery")
        return current

    def _row(self, image_id: int) -> ImageRow:
        try:
            return self.watched.gallery.images_by_id([image_id])[0]
        except GalleryError as error:
            raise NotThereError(f"image {image_id} is not in the gallery; reload the page") from error

    def _open(self) -> Gallery:
        return Gallery.open(self.path, "rw", wait_seconds=WRITER_SECONDS)

    def _stored(self, content: bytes, label: str) -> Path:
        """A new file in the folder, whole and on the disk before it has its name. Raises StorageError."""
        readable = "".join(c if c.isascii() and c.isalnum() else "-" for c in label).strip("-")[:40]
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}" + (f"-{readable}" if readable else "")
        file, unfinished = self.folder / f"{name}.jpg", self.folder / f".{name}.part"
        try:
            self.folder.mkdir(exist_ok=True)
            with open(unfinished, "xb") as writing:
                writing.write(content)
                writing.flush()
                os.fsync(writing.fileno())
            unfinished.rename(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise StorageError(f"{self.folder} cannot be written ({error.strerror}); nothing was enrolled") from error
        return file

    def _enrolled(self, file: Path, label: str) -> tuple[ImageRow, str]:
        told: list[Outcome] = []
        with self._open() as gallery:
            enroll(gallery, [single_file(str(file))], self.pipeline, EnrollOptions(Labels(label)), told.append)
            if not told or told[0].status == "rejected":
                raise BadImageError(told[0].reason or "the picture was rejected" if told else "nothing was enrolled")
            root = next(root for root in all_roots(gallery) if os.path.realpath(root.location) == _real(file.parent))
            row = gallery.image_by_path(root.id, file.name)
            if row is None:
                row = gallery.image_by_hash(_digest(file))
            if row is None:
                raise GalleryError("the picture was removed again by somebody else")
            if row.label != label:
                with gallery.batch() as batch:
                    batch.label(row.id, label)
                row = gallery.images_by_id([row.id])[0]
        return row, told[0].status

    def _own_file(self, row: ImageRow) -> Path | None:
        """The image's file where it lies in the folder this page writes, and still holds the image."""
        file = self.folder / row.path
        places = {root.id: root.location for root in all_roots(self.watched.gallery)}
        own = os.path.realpath(places[row.root_id]) == _real(self.folder) and "/" not in row.path
        return file if own and file.is_file() and _digest(file) == row.content_hash else None


def checked_label(text: str) -> str:
    """A name as it is stored. Raises UsageError for one that is empty, too long or no text."""
    label = " ".join(text.split())
    if not label:
        raise UsageError("give it a name first")
    if len(label) > LONGEST_LABEL:
        raise UsageError(f"the name has {len(label)} characters; at most {LONGEST_LABEL} are kept")
    if not label.isprintable():
        raise UsageError("the name holds characters that cannot be shown")
    return label


def row_json(row: ImageRow) -> dict[str, Any]:
    """An enrolled image as the page reads it; names that are no text are shown with marks in place of bytes."""
    return {
        "id": row.id,
        "path": _text(row.path),
        "root": _text(row.root),
        "label": row.label,
        "width": row.width,
        "height": row.height,
        "regions": row.regions,
    }


def hit_json(hit: Hit, row: ImageRow) -> dict[str, Any]:
    return {
        "image": row_json(row),
        "score": round(hit.score, 4),
        "match": None if hit.match is None else round(hit.match, 4),
        "box": [round(value, 1) for value in hit.box],
    }


def _from_memory(holdings: Holdings, asked: Descriptors, k: int) -> list[dict[str, Any]]:
    """Hits where the gallery's file cannot be read any more: names and scores are in memory, boxes are not."""
    matches = look_up(holdings.search, asked.values, k=k, most=k)
    scores = matches.scores[0] if len(matches.image_ids) else []
    best = sorted(zip(scores, matches.image_ids, strict=True), reverse=True)
    return [
        {
            "image": {"id": int(image), "path": _text(item.path), "root": "", "label": item.label, "regions": None}
            | {"width": None, "height": None},
            "score": round(float(score), 4),
            "match": None,
            "box": None,
        }
        for score, image in best
        if (item := holdings.items.get(int(image))) is not None
    ]


def _rows_of(gallery: Gallery, hits: Sequence[Hit]) -> list[ImageRow | None]:
    """The image behind each hit; None where it was removed meanwhile. Two of one root's name and path go in order."""
    taken: set[int] = set()
    found: list[ImageRow | None] = []
    for hit in hits:
        rows = [row for row in gallery.images_at(hit.image) if row.root == hit.root and row.id not in taken]
        found.append(rows[0] if rows else None)
        taken.update(row.id for row in rows[:1])
    return found


def _digest(file: Path) -> bytes:
    return blake2b(file.read_bytes(), digest_size=32).digest()


def _real(path: Path) -> str:
    return os.path.realpath(path)


def _text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
