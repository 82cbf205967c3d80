"""What has to be done for one file, found out as cheaply as possible: by its stat, else by its content's hash."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_claid.errors import UsageError
from edge_claid.gallery.clips import (
    Clip,
    StoredFrame,
    belong_to,
    file_of,
    frame_digest,
    frames_of,
    spacing,
    video_of,
)
from edge_claid.gallery.enrolment.sidecar import Sidecar, read_sidecar
from edge_claid.gallery.roots import Root, is_mounted
from edge_claid.gallery.storage.rows import UNFINISHED, ImageRow
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
    sidecar: str | None

    @property
    def picture_by_name(self) -> bool:
        """Its name is that of a picture."""

    @property
    def video_by_name(self) -> bool:
        """Its name is that of a video."""


class Fetched(Protocol):
    """A file's content; see edge_claid.frames.folder.Fetched."""

    size: int
    mtime_ns: int
    digest: bytes


class FileSource(Protocol):
    """Pictures and videos below one root; see edge_claid.frames.folder.PictureFiles."""

    uri: str
    root: str
    name: str
    whole: bool
    video_every: float | None

    def files(self) -> Iterator[Any]:
        """Every file, as Listed."""

    def fetch(self, file: Any) -> Any:
        """Fetched, or None for no picture. Raises BadImageError."""

    def check(self, fetched: Any, name: str) -> Any:
        """(header with width and height, exif with taken, latitude, longitude). Raises BadImageError."""

    def decode(self, fetched: Any, name: str) -> Frame:
        """Pixels. Raises BadImageError."""

    def digest(self, file: Any) -> Any:
        """Fetched of a file of any size. Raises BadImageError."""

    def key_frames(self, file: Any) -> Iterator[tuple[float, Frame | None]]:
        """(seconds, frame or None for a near-duplicate) of a video. Raises BadImageError, also after frames."""

    def facts(self, file: Any) -> tuple[int, int] | None:
        """(size, mtime_ns) as they are now, None where it is gone."""

    def expected_frames(self, file: Any) -> int:
        """Key frames of a video at most."""


@dataclass
class Finding:
    """One file on its way through enrolment.

    status: "new" (to be described and added), "moved", "unchanged", "rejected" or "skipped".
    row: the image the gallery has of it, if any. size, mtime_ns: of the file, UNSURE where the time proves nothing.
    source: number of its source. sidecar: what a JSON file beside it says, or None.
    clip: the video that it is a frame of, or that it ends. frames: of a video that the gallery has already.
    """

    path: str
    relative: str
    root: Root | None
    source: int = 0
    status: str = "new"
    reason: str | None = None
    row: ImageRow | None = None
    size: int = 0
    mtime_ns: int = UNSURE
    digest: bytes = b""
    copy: bool = False
    exif: Any = None
    described: Described | None = field(default=None, repr=False)
    sidecar: Sidecar | None = None
    clip: Clip | None = None
    frames: Sequence[StoredFrame] = ()


class Survey:
    """Compares files with a gallery (None: an empty one). roots: where each root's files lie now."""

    def __init__(self, gallery: Gallery | None, roots: list[Root]):
        self._gallery = gallery
        self._roots = {root.id: root for root in roots}

    def by_stat(self, file: Listed, root: Root | None, source: int = 0) -> Finding:
        """Verdict without opening the file; "new" means that its content has to be looked at."""
        finding = Finding(file.path, file.relative, root, source, size=file.size)
        if file.problem:
            finding.status, finding.reason = ("skipped" if file.skipped else "rejected"), file.problem
            return finding
        if file.sidecar is not None:
            try:
                finding.sidecar = read_sidecar(file.sidecar)
            except UsageError as error:
                finding.reason = str(error)
        if self._gallery is None or root is None:
            return finding
        if file.video_by_name:
            frames = frames_of(self._gallery, root.id, file.relative)
            if frames and all((one.size, one.mtime_ns) == (file.size, file.mtime_ns) for one in frames):
                finding.status, finding.mtime_ns, finding.frames = "unchanged", file.mtime_ns, frames
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

    def clip_by_content(self, finding: Finding, fetched: Fetched, every: float | None) -> None:
        """Verdict on a whole video by its content's hash; "new" means that its frames have to be looked at."""
        finding.size, finding.mtime_ns = fetched.size, _trusted(fetched.mtime_ns)
        finding.digest = fetched.digest
        if self._gallery is None:
            return
        first = self._gallery.image_by_hash(frame_digest(fetched.digest, 0.0))
        if first is None or spacing(self._gallery, first.root_id) != every:
            return
        frames = frames_of(self._gallery, first.root_id, video_of(first.path))
        if belong_to(frames, fetched.digest):
            finding.frames = frames
            self.recognise(finding, first, finding.relative)

    def frame_by_content(self, finding: Finding) -> None:
        """Verdict on one frame of a video by its digest."""
        known = self._gallery.image_by_hash(finding.digest) if self._gallery is not None else None
        if known is not None:
            self.recognise(finding, known)

    def recognise(self, finding: Finding, known: ImageRow, video: str | None = None) -> None:
        """The content is the gallery's image ``known``: the same file, a moved one, or a copy.

        video: path of the video where the whole of it is compared by its first frame.
        """
        place = known.path if video is None else video_of(known.path)
        same_place = finding.root is not None and (known.root_id, place) == (finding.root.id, finding.relative)
        finding.row = known
        if same_place and not known.displaced:
            finding.status = "unchanged"
        elif self._lost_its_file(known) or self._renamed_in_case(known, finding):
            finding.status, finding.reason = "moved", f"was {place}"
        else:
            finding.status, finding.copy = "unchanged", True
            finding.reason = f"same content as {known.root}/{place}"

    def _renamed_in_case(self, row: ImageRow, finding: Finding) -> bool:
        """True where a file system that ignores case still finds the file by a name that it no longer has."""
        root = finding.root
        if root is None or row.root_id != root.id or row.path.casefold() != finding.relative.casefold():
            return False
        folder, name = os.path.split(os.path.join(root.location, video_of(row.path)))
        try:
            return name not in os.listdir(folder)
        except OSError:
            return False

    def _lost_its_file(self, row: ImageRow) -> bool:
        """True where the image's own file is gone or holds something else; a medium that is absent proves nothing."""
        if row.displaced:
            return True
        root = self._roots.get(row.root_id)
        if root is None or not is_mounted(root):
            return False
        try:
            status = os.stat(file_of(os.path.join(root.location, row.path)))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return status.st_size != row.size or row.mtime_ns not in (UNSURE, UNFINISHED, status.st_mtime_ns)


def _trusted(mtime_ns: int) -> int:
    proves = mtime_ns >= _YEAR_1980_NS and abs(time.time_ns() - mtime_ns) > _CLOCK_NS
    return mtime_ns if proves else UNSURE
