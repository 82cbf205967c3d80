"""Key frames of videos: each is an image at ``clip.mp4#t=12.000``, known by its video's content and its time.

A video's frames carry UNFINISHED in place of its modification time until all of them are in the gallery; so a run that
was cut short looks at the video again, finds the frames it has, and describes the rest.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from edge_claid.gallery.roots import Root
from edge_claid.gallery.storage import identity
from edge_claid.gallery.storage.rows import AFTER_FRAME_MARK, FRAME_MARK, UNFINISHED, name_bytes, name_from_bytes
from edge_claid.gallery.store import Gallery

_FRAME = re.compile(r"(.+)#t=(\d+\.\d{3})", re.DOTALL)


@dataclass(frozen=True)
class StoredFrame:
    """A key frame as the gallery has it: row id, content hash, the video's size and time, regions and label."""

    id: int
    path: str
    content_hash: bytes
    size: int
    mtime_ns: int
    regions: int
    label: str | None


@dataclass
class Clip:
    """A video on its way through enrolment.

    places: paths of its frames, relative to the root. given: frames handed on; applied: of those, in the gallery.
    ended: the video was read to its end. problem: why that end came early.
    """

    path: str
    relative: str
    root: Root
    size: int
    mtime_ns: int
    digest: bytes
    places: set[str] = field(default_factory=set)
    given: int = 0
    applied: int = 0
    ended: bool = False
    problem: str | None = None

    @property
    def complete(self) -> bool:
        return self.ended and self.applied == self.given


def frame_path(path: str, seconds: float) -> str:
    """Where a frame of a video is said to lie."""
    return f"{path}#t={seconds:.3f}"


def frame_digest(video: bytes, seconds: float) -> bytes:
    """Identity of a frame: BLAKE2b-256 of the video's digest and its milliseconds."""
    return blake2b(video + struct.pack("<q", round(seconds * 1000)), digest_size=32, person=b"key frame").digest()


def video_of(path: str) -> str:
    """The video that a frame's path names, else the path itself."""
    match = _FRAME.fullmatch(path)
    return match[1] if match is not None else path


def seconds_of(path: str) -> float:
    """The time that a frame's path names."""
    match = _FRAME.fullmatch(path)
    return float(match[2]) if match is not None else 0.0


def file_of(path: str) -> str:
    """The file that an image lies in: the video of a frame, else the path itself."""
    return path if os.path.lexists(path) else video_of(path)


def frames_at(connection: sqlite3.Connection, root_id: int, relative: str) -> list[StoredFrame]:
    """The searched frames of the video at a path of a root, by path."""
    first, last = name_bytes(relative) + FRAME_MARK, name_bytes(relative) + AFTER_FRAME_MARK
    rows = connection.execute(
        "SELECT id, path, hash, size, mtime_ns, regions, label FROM images"
        " WHERE root = ? AND path >= ? AND path < ? AND displaced = 0 ORDER BY path",
        (root_id, first, last),
    )
    return [StoredFrame(row[0], name_from_bytes(row[1]), *row[2:]) for row in rows]


def frames_of(gallery: Gallery, root_id: int, relative: str) -> list[StoredFrame]:
    """As ``frames_at``, outside a transaction."""
    with gallery.reading() as connection:
        return frames_at(connection, root_id, relative)


def belong_to(frames: Sequence[StoredFrame], digest: bytes) -> bool:
    """True where these are all frames of the video with this content, read to its end."""
    for frame in frames:
        match = _FRAME.fullmatch(frame.path)
        if match is None or frame.mtime_ns == UNFINISHED or frame.content_hash != frame_digest(digest, float(match[2])):
            return False
    return bool(frames)


def require_spacing(gallery: Gallery, root: Root, every: float) -> None:
    """Note how far apart key frames are below a root; where that changes, its videos are looked at again."""
    key = f"video_every.{root.id}"
    with gallery.reading() as connection:
        if identity.read_meta(connection).get(key) == f"{every:g}":
            return
    with gallery.writing() as connection:
        look_again(connection, root.id)
        note_spacing(connection, root.id, every)


def look_again(connection: sqlite3.Connection, root_id: int | None = None) -> None:
    """The next enrolment looks at the videos below a root, or at all, whatever their times say; in a transaction."""
    update = "UPDATE images SET mtime_ns = ? WHERE root = ifnull(?, root) AND instr(path, ?) > 0"
    connection.execute(update, (UNFINISHED, root_id, FRAME_MARK))


def note_spacing(connection: sqlite3.Connection, root_id: int, every: float) -> None:
    """Seconds between key frames below a root; in a transaction."""
    identity.write_meta(connection, **{f"video_every.{root_id}": f"{every:g}"})


def spacing(gallery: Gallery, root_id: int) -> float | None:
    """Seconds between key frames below a root, or None where no video was enrolled there."""
    with gallery.reading() as connection:
        stored = identity.read_meta(connection).get(f"video_every.{root_id}", "")
    try:
        return float(stored)
    except ValueError:
        return None


def finish(connection: sqlite3.Connection, clip: Clip) -> None:
    """All frames of a video are in: they get its time; what else lies at its path is displaced. In a transaction."""
    facts = [(clip.size, clip.mtime_ns, clip.root.id, name_bytes(place)) for place in clip.places]
    update = "UPDATE images SET size = ?, mtime_ns = ? WHERE root = ? AND path = ? AND displaced = 0"
    connection.executemany(update, facts)
    stale = [(one.id,) for one in frames_at(connection, clip.root.id, clip.relative) if one.path not in clip.places]
    connection.executemany("UPDATE images SET displaced = 1 WHERE id = ?", stale)
