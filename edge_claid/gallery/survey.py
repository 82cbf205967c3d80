"""What has to be done for one file, found out as cheaply as possible: by its stat, else by its content's hash."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_claid.gallery.roots import Root
from edge_claid.gallery.rows import ImageRow
from edge_claid.gallery.store import Gallery
from edge_claid.records import Described, Frame

# A file written again within its clock's resolution (2 s on vfat) keeps its modification time.
_CLOCK_NS = 3_000_000_000
_YEAR_1980_NS = 315_532_800 * 1_000_000_000
UNSURE = -1  # stored in place of a modification time that proves nothing


class Listed(Protocol):
    """A file as a source lists it; see edge_claid.frames.folder.PictureFile."""

    path: str
    relative: str
    size: int
    mtime_ns: int
    problem: str | None
    skipped: bool
    folder: bool


class Fetched(Protocol):
    """A file's content; see edge_claid.frames.folder.Fetched."""

    size: int
    mtime_ns: int
    digest: bytes


class FileSource(Protocol):
    """Still pictures below one root; see edge_claid.frames.folder.PictureFiles."""

    uri: str
    root: str
    name: str
    whole: bool

    def files(self) -> Iterator[Any]:
        """Every file, as Listed."""

    def fetch(self, file: Any) -> Any:
        """Fetched, or None for no picture. Raises BadImageError."""

    def check(self, fetched: Any, name: str) -> Any:
        """(header with width and height, exif with taken, latitude, longitude). Raises BadImageError."""

    def decode(self, fetched: Any, name: str) -> Frame:
        """Pixels. Raises BadImageError."""


@dataclass
class Finding:
    """One file on its way through enrolment.

    status: "new" (to be described and added), "moved", "unchanged", "rejected" or "skipped".
    row: the image the gallery has of it, if any. size, mtime_ns: of the file, UNSURE where the time proves nothing.
    """

    path: str
    relative: str
    root: Root | None
    status: str = "new"
    reason: str | None = None
    row: ImageRow | None = None
    size: int = 0
    mtime_ns: int = UNSURE
    digest: bytes = b""
    copy: bool = False
    exif: Any = None
    described: Described | None = field(default=None, repr=False)


class Survey:
    """Compares files with a gallery (None: an empty one). roots: where each root's files lie now."""

    def __init__(self, gallery: Gallery | None, roots: list[Root]):
        self._gallery = gallery
        self._locations = {root.id: root.location for root in roots}

    def by_stat(self, file: Listed, root: Root | None) -> Finding:
        """Verdict without opening the file; "new" means that its content has to be looked at."""
        finding = Finding(file.path, file.relative, root, size=file.size)
        if file.problem:
            finding.status, finding.reason = ("skipped" if file.skipped else "rejected"), file.problem
            return finding
        if self._gallery is None or root is None:
            return finding
        finding.row = self._gallery.image_by_path(root.id, file.relative)
        if finding.row is not None and (finding.row.size, finding.row.mtime_ns) == (file.size, file.mtime_ns):
            finding.status, finding.mtime_ns = "unchanged", file.mtime_ns
        return finding

    def by_content(self, finding: Finding, fetched: Fetched) -> None:
        """Verdict by the content's hash; "new" means that the picture has to be described."""
        finding.size, finding.mtime_ns = fetched.size, _trusted(fetched.mtime_ns)
        finding.digest = fetched.digest
        known = self._gallery.image_by_hash(fetched.digest) if self._gallery is not None else None
        if known is not None:
            self.recognise(finding, known)

    def recognise(self, finding: Finding, known: ImageRow) -> None:
        """The content is the gallery's image ``known``: the same file, a moved one, or a copy."""
        same_place = finding.root is not None and (known.root_id, known.path) == (finding.root.id, finding.relative)
        finding.row = known
        if same_place and not known.displaced:
            finding.status = "unchanged"
        elif self._lost_its_file(known):
            finding.status, finding.reason = "moved", f"was {known.path}"
        else:
            finding.status, finding.copy = "unchanged", True
            finding.reason = f"same content as {known.root}/{known.path}"

    def _lost_its_file(self, row: ImageRow) -> bool:
        """True where the image's own file is gone or holds something else; a medium that is absent proves nothing."""
        if row.displaced:
            return True
        location = self._locations.get(row.root_id, "")
        if not os.path.isdir(location):
            return False
        try:
            status = os.stat(os.path.join(location, row.path))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return status.st_size != row.size or row.mtime_ns not in (UNSURE, status.st_mtime_ns)


def _trusted(mtime_ns: int) -> int:
    proves = mtime_ns >= _YEAR_1980_NS and abs(time.time_ns() - mtime_ns) > _CLOCK_NS
    return mtime_ns if proves else UNSURE
