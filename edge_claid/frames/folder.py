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
from dataclasses import dataclass, field
from hashlib import blake2b

from edge_claid.errors import BadImageError
from edge_claid.frames.exif import Exif, read_exif
from edge_claid.frames.header import Header, sniff
from edge_claid.frames.reading import ReadLimits, check_picture, decode_picture, read_bytes
from edge_claid.records import Frame

PICTURE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"]
)
# Pictures that no decoder here reads; camera raw would pass for TIFF and give its thumbnail.
_UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"}
)
# Folders that hold no pictures of the user's: what was thrown away, and the systems' own.
_PASSED_OVER = frozenset({"$recycle.bin", "system volume information", "lost+found"})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureFile:
    """One thing the walk met.

    path: to open it by; relative: path below the source's root, with "/"; size: bytes, mtime_ns: ns since 1970.
    problem: why it cannot be opened, else None. skipped: the problem means it is no picture at all.
    folder: it is a folder (that could not be entered).
    """

    path: str
    relative: str
    size: int = 0
    mtime_ns: int = 0
    problem: str | None = None
    skipped: bool = False
    folder: bool = False

    @property
    def picture_by_name(self) -> bool:
        return os.path.splitext(self.relative)[1].lower() in PICTURE_SUFFIXES


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
    """

    def __init__(self, uri: str, root: str, paths: list[str] | None = None, limits: ReadLimits | None = None):
        self.uri = uri
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
            yield from _walk(self.root)
            return
        for path in self._paths:
            yield _listed(path, os.path.relpath(path, self.root).replace(os.sep, "/"))

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


def _walk(root: str) -> Iterator[PictureFile]:
    seen: set[tuple[int, int]] = set()
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            yield PictureFile(folder, prefix.rstrip("/") or ".", problem=_reason(error), folder=True)
            continue
        below = []
        for name in names:
            listed = _listed(os.path.join(folder, name), prefix + name)
            if not listed.folder:
                yield listed
            elif not name.startswith(".") and name.lower() not in _PASSED_OVER:
                below.append((listed.path, listed.relative + "/"))
        folders.extend(reversed(below))


def _listed(path: str, relative: str) -> PictureFile:
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
    return PictureFile(path, relative, status.st_size, status.st_mtime_ns, unread)


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
