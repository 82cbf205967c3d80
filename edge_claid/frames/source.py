"""The source grammar: one string names a folder, a glob, a picture or a video file.

To add a kind of source: one file in this package with a class that is used in a ``with`` block and yields Frames,
and one line in ``open_source``.
"""

from __future__ import annotations

import glob
import os
import re

from edge_claid.errors import UsageError
from edge_claid.frames.folder import PictureFiles, globbed, single_file
from edge_claid.frames.reading import ReadLimits
from edge_claid.frames.stream import FileStream, Stream
from edge_claid.frames.video import VIDEO_SUFFIXES, VideoFile

_CAMERA = re.compile(r"\d+$|(v4l2|csi|rtsps?)://|gst:")


def open_source(uri: str | os.PathLike[str], limits: ReadLimits | None = None) -> PictureFiles | VideoFile:
    """The source a user named; to be used in a ``with`` block.

    Raises UsageError where nothing is there or the kind of source is not read here.
    """
    uri = os.fspath(uri)
    if _CAMERA.match(uri):
        raise UsageError(f"{without_credentials(uri)}: cameras and streams cannot be read as a set of pictures")
    if "\0" in uri or not uri:
        raise UsageError(f"source {uri!r} is no name of a file or folder")
    if os.path.isdir(uri):
        return PictureFiles(uri, uri, limits=limits)
    if os.path.lexists(uri):
        video = os.path.splitext(uri)[1].lower() in VIDEO_SUFFIXES
        return VideoFile(uri) if video else single_file(uri, limits)
    if glob.has_magic(uri):
        matched = globbed(uri, limits)
        if next(matched.files(), None) is None:
            raise UsageError(f"{uri}: no file matches this pattern")
        return matched
    raise UsageError(f"{uri}: no such file or folder")


def open_stream(
    uri: str | os.PathLike[str], *, max_reconnects: int | None = None, limits: ReadLimits | None = None
) -> Stream:
    """The source a user named, frame by frame; to be used in a ``with`` block.

    max_reconnects: attempts in a row to open a lost live source anew before it is given up; None: for ever.
    Raises UsageError where nothing is there.
    """
    return FileStream(open_source(uri, limits))


def without_credentials(uri: str) -> str:
    """The source as it may be printed: user and password replaced by ***."""
    return re.sub(r"://[^/@]*@", "://***@", uri)
