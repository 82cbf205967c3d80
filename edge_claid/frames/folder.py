"""Still pictures in folders, single files and globs: what is there, and each file's bytes and pixels.

The walk goes into links to folders once each, so a loop of links ends; it opens no FIFO, socket or device; a folder
without permission is reported and the walk goes on. Names are kept as the system gives them (``os.fsdecode``: bytes
that are no UTF-8 become surrogates), so spaces, newlines and foreign encodings survive.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from edge_claid.errors import BadImageError
from edge_claid.frames.exif import Exif, read_exif
from edge_claid.frames.file_bytes import ReadLimits, open_regular, read_bytes
from edge_claid.frames.header import Header, sniff
from edge_claid.frames.key_frames import expected_frames, key_frames
from edge_claid.frames.reading import check_picture, decode_picture
from edge_claid.frames.sidecars import sidecars
from edge_claid.frames.video import VIDEO_SUFFIXES
from edge_claid.records import Frame

PICTURE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".heic", ".heif"]
)
# Pictures that no decoder here reads; camera raw would pass for TIFF and give its thumbnail.
_UNREAD_SUFFIXES = frozenset({".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"})
_WITH_SIDECARS = PICTURE_SUFFIXES | _UNREAD_SUFFIXES | VIDEO_SUFFIXES
# Folders that hold no pictures of the user's: what was thrown away, and the systems' own.
_PASSED_OVER = frozenset({"$recycle.bin", "system volume information", "lost+found"})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureFile:
    """One thing the walk met.

    path: to open it by; relative: path below the source's root, with "/"; size: bytes, mtime_ns: ns since 1970.
    problem: why it cannot be opened, else None. skipped: the problem means it is no picture at all.
    folder: it is a folder (that could not be entered). sidecar: path of the JSON file that speaks of it, or None.
    """

    path: str
    relative: str
    size: int = 0
    mtime_ns: int = 0
    problem: str | None = None
    skipped: bool = False
    folder: bool = False
    sidecar: str | None = None

    @property
    def picture_by_name(self) -> bool:
        return os.path.splitext(self.relative)[1].lower() in PICTURE_SUFFIXES

    @property
    def video_by_name(self) -> bool:
        return os.path.splitext(self.relative)[1].lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Fetched:
    """Content of one file: bytes, size, mtime_ns as they were while it was read, BLAKE2b-256 digest of the bytes."""

    data: bytes = field(repr=False)
    size: int
    mtime_ns: int
    digest: bytes


class PictureFiles:
    """Still picture files below one root.

    uri: as the user wrote it. root: absolute path of the folder that relative paths start from; name: its last part.
    whole: the source is that whole folder, so what it does not list is gone.
    one_device: the walk enters no other file system that is mounted below the root.
    video_every: seconds between key frames of videos, None where videos are no pictures.
    """

    def __init__(
        self,
        uri: str,
        root: str,
        paths: list[str] | None = None,
        limits: ReadLimits | None = None,
        one_device: bool = False,
        video_every: float | None = None,
    ):
        self.uri = uri
        self.one_device = one_device
        self.video_every = video_every
        self.root = os.path.abspath(root)
        self.name = os.path.basename(self.root) or self.root
        self.whole = paths is None
        self.limits = limits or ReadLimits()
        self._paths = paths

    def __enter__(self) -> PictureFiles:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open between files."""

    def files(self) -> Iterator[PictureFile]:
        """Every file below the root, folder by folder in sorted order."""
        if self._paths is None:
            yield from _walk(self.root, self.one_device)
            return
        for path in self._paths:
            beside = sidecars_beside(path)
            yield _listed(path, os.path.relpath(path, self.root).replace(os.sep, "/"), beside)

    def fetch(self, file: PictureFile) -> Fetched | None:
        """Read a file, or None where it is no picture by name and content. Raises BadImageError."""
        if not file.picture_by_name and sniff(_first_bytes(file.path)) is None:
            return None
        read = read_bytes(file.path, self.limits)
        if read.data[:4] == b"\0\x05\x16\x07":
            return None  # AppleDouble: what macOS writes beside a picture on foreign file systems, under its suffix.
        return Fetched(read.data, read.size, read.mtime_ns, blake2b(read.data, digest_size=32).digest())

    def check(self, fetched: Fetched, name: str) -> tuple[Header, Exif]:
        """Header and EXIF of a picture that may be decoded. Raises BadImageError."""
        header = check_picture(fetched.data, name, self.limits)
        return header, read_exif(fetched.data, header.format)

    def decode(self, fetched: Fetched, name: str) -> Frame:
        """Pixels of a fetched picture. Raises BadImageError."""
        return decode_picture(fetched.data, name, self.limits)

    def digest(self, file: PictureFile) -> Fetched:
        """A file's facts and digest without its content, however large it is. Raises BadImageError."""
        digest = blake2b(digest_size=32)
        try:
            with open_regular(file.path) as opened:
                before = os.fstat(opened.fileno())
                while block := opened.read(1 << 20):
                    digest.update(block)
                after = os.fstat(opened.fileno())
        except OSError as error:
            raise BadImageError(f"{file.path}: cannot be read ({_reason(error)})") from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BadImageError(f"{file.path}: changed while it was read")
        return Fetched(b"", after.st_size, after.st_mtime_ns, digest.digest())

    def facts(self, file: PictureFile) -> tuple[int, int] | None:
        """(size, mtime_ns) of a file as they are now, None where it is gone."""
        try:
            status = os.stat(file.path)
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns

    def key_frames(self, file: PictureFile) -> Iterator[tuple[float, Frame | None]]:
        """(seconds, frame or None for a near-duplicate) of a video; see edge_claid.frames.key_frames."""
        assert self.video_every is not None
        return key_frames(file.path, self.video_every, self.limits)

    def expected_frames(self, file: PictureFile) -> int:
        """Key frames of a video at most, by the length it states."""
        return expected_frames(file.path, self.video_every) if self.video_every is not None else 0

    def __iter__(self) -> Iterator[Frame]:
        """Every picture that can be used; the others are logged."""
        for file in self.files():
            try:
                fetched = None if file.problem else self.fetch(file)
                if fetched is not None:
                    yield self.decode(fetched, file.path)
            except BadImageError as error:
                log.warning("%s", error)


def single_file(uri: str, limits: ReadLimits | None = None) -> PictureFiles:
    """One picture file; its folder is the root."""
    path = os.path.abspath(uri)
    return PictureFiles(uri, os.path.dirname(path), [path], limits)


def globbed(uri: str, limits: ReadLimits | None = None) -> PictureFiles:
    """Files that match a pattern (``**`` for any folders); the root is the folder before the first wildcard."""
    # ``**`` goes around a loop of links some 40 times; each real file counts once, by its shortest name.
    found = sorted(glob.iglob(os.path.abspath(uri), recursive=True), key=lambda path: (len(path), path))
    real = {os.path.realpath(path): path for path in reversed(found) if not os.path.isdir(path)}
    paths = sorted(real.values())
    root = os.path.abspath(uri)
    while glob.has_magic(root):
        root = os.path.dirname(root)
    return PictureFiles(uri, root, paths, limits)


def sidecars_beside(path: str) -> str | None:
    """Path of the sidecar of one picture or video, or None."""
    folder, name = os.path.split(path)
    near = [one for one in (f"{name}.json", f"{os.path.splitext(name)[0]}.json") if os.path.exists(f"{folder}/{one}")]
    found = sidecars([name, *near], _WITH_SIDECARS).get(name)
    return os.path.join(folder, found) if found else None


def _walk(root: str, one_device: bool) -> Iterator[PictureFile]:
    seen: set[tuple[int, int]] = set()
    device = None
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            device = status.st_dev if device is None else device
            if one_device and status.st_dev != device:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            yield PictureFile(folder, prefix.rstrip("/") or ".", problem=_reason(error), folder=True)
            continue
        below = []
        paired = sidecars(names, _WITH_SIDECARS)
        spoken_of = {sidecar: name for name, sidecar in paired.items()}
        for name in names:
            beside = os.path.join(folder, paired[name]) if name in paired else None
            listed = _listed(os.path.join(folder, name), prefix + name, beside)
            if name in spoken_of and not listed.problem and not listed.folder:
                yield replace(listed, problem=f"sidecar of {spoken_of[name]}", skipped=True)
            elif not listed.folder:
                yield listed
            elif not name.startswith(".") and name.lower() not in _PASSED_OVER:
                below.append((listed.path, listed.relative + "/"))
        folders.extend(reversed(below))


def _listed(path: str, relative: str, sidecar: str | None = None) -> PictureFile:
    by_name = PictureFile(path, relative).picture_by_name
    try:
        status = os.stat(path)
    except OSError as error:
        dangling = error.errno in (errno.ENOENT, errno.ELOOP) and os.path.islink(path)
        problem = "a link that leads nowhere" if dangling else _reason(error)
        return PictureFile(path, relative, problem=problem, skipped=dangling and not by_name)
    if stat.S_ISDIR(status.st_mode):
        return PictureFile(path, relative, folder=True)
    if not stat.S_ISREG(status.st_mode):
        return PictureFile(path, relative, problem="no regular file (a pipe, socket or device)", skipped=True)
    suffix = os.path.splitext(relative)[1].lower()
    unread = f"{suffix[1:].upper()} pictures are not read; convert it to JPEG" if suffix in _UNREAD_SUFFIXES else None
    return PictureFile(path, relative, status.st_size, status.st_mtime_ns, unread, sidecar=sidecar)


def _first_bytes(path: str, count: int = 32) -> bytes:
    """The first bytes of a regular file. Raises BadImageError where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            return os.read(descriptor, count)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadImageError(f"{path}: cannot be read ({_reason(error)})") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
