"""The source grammar: one string names a folder, a glob, a picture, a video file, a camera or a network stream.

To add a kind of file: one module in this package with a class that is used in a ``with`` block and yields Frames, and
one line in ``open_source``. To add a kind of live source: see ``edge_claid/capture``.
"""

from __future__ import annotations

import glob
import os

from edge_claid.errors import UsageError
from edge_claid.frames.address import is_foreign, is_live, live_address, without_credentials
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.frames.folder import PictureFiles, globbed, single_file
from edge_claid.frames.live_stream import LiveStream, Patience
from edge_claid.frames.stream import FileStream, Stream
from edge_claid.frames.video import VIDEO_SUFFIXES, VideoFile


def open_source(uri: str | os.PathLike[str], limits: ReadLimits | None = None) -> PictureFiles | VideoFile:
    """The source a user named; to be used in a ``with`` block.

    Raises UsageError where nothing is there or the kind of source is not read here.
    """
    uri = os.fspath(uri)
    if is_live(uri):
        raise UsageError(f"{without_credentials(uri)}: cameras and streams cannot be read as a set of pictures")
    if is_foreign(uri):
        raise UsageError(
            f"{without_credentials(uri)}: sources of this kind are not read here; a network camera is "
            'rtsp://user:password@host:port/path, anything else that GStreamer plays gst:"…"'
        )
    if "\0" in uri or not uri:
        raise UsageError(f"source {uri!r} is no name of a file or folder")
    if os.path.isdir(uri):
        return PictureFiles(uri, uri, limits=limits)
    if os.path.lexists(uri):
        video = os.path.splitext(uri)[1].lower() in VIDEO_SUFFIXES
        return VideoFile(uri, limits) if video else single_file(uri, limits)
    if glob.has_magic(uri):
        matched = globbed(uri, limits)
        if next(matched.files(), None) is None:
            raise UsageError(f"{uri}: no file matches this pattern")
        return matched
    raise UsageError(f"{uri}: no such file or folder")


def open_pictures(uri: str | os.PathLike[str], video_every: float | None = None) -> PictureFiles:
    """The pictures that a source holds, and a key frame of its videos every so many seconds (None: no videos).

    Raises UsageError where the source holds no pictures, or is a video and no spacing is given.
    """
    uri = os.fspath(uri)
    source = open_source(uri)
    if isinstance(source, VideoFile):
        if video_every is None:
            raise UsageError(f"{uri}: a video is enrolled by its key frames; give their spacing (--video-every 1s)")
        source = single_file(uri)
    source.video_every = video_every
    return source


def open_stream(
    uri: str | os.PathLike[str],
    *,
    max_reconnects: int | None = None,
    wait: bool = False,
    patience: Patience | None = None,
    limits: ReadLimits | None = None,
) -> Stream:
    """The source a user named, frame by frame; to be used in a ``with`` block.

    For live sources: max_reconnects: attempts in a row to open it anew before it is given up (None: for ever); wait:
    wait also for one that cannot be opened at the start; patience: seconds allowed for each step.
    Raises UsageError where nothing is there or the address is malformed, SourceLostError where there is no such camera.
    """
    uri = os.fspath(uri)
    if not is_live(uri):
        return FileStream(open_source(uri, limits))
    address = live_address(uri, there=not wait)
    return LiveStream(address, max_reconnects=max_reconnects, wait=wait, patience=patience, limits=limits)
