"""Pictures of enrolled images as small JPEGs, from their files; nothing else on the disk can be read this way."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from hashlib import blake2b

import cv2
import numpy as np

from edge_claid.errors import BadImageError
from edge_claid.frames.file_bytes import open_regular, read_bytes
from edge_claid.frames.key_frames import split_frame_path
from edge_claid.frames.reading import decode_picture, read_picture
from edge_claid.gallery.clips import frame_digest
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery

SIDES = (320, 1280)  # longer side of a thumbnail and of a picture to look at, pixels
_KEPT_BYTES = 32_000_000  # of JPEGs kept in memory
_KEPT_DIGESTS = 256


class GalleryPictures:
    """Small JPEGs of enrolled images, the last used ones kept in memory. May be used from several threads.

    A gallery file may come from anybody and name any path. So a file is shown only if its content is what was enrolled:
    whoever made the gallery must have had the picture already.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._size = 0
        self._digests: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    def jpeg(self, gallery: Gallery, row: ImageRow, side: int) -> bytes:
        """The picture with a longer side of at most ``side``. Raises BadImageError where its file is not at hand."""
        key = (row.content_hash, side)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        content = jpeg_of(self._pixels(gallery, row), side)
        with self._lock:
            self._size += len(content) - len(self._kept.get(key, b""))
            self._kept[key] = content
            while self._size > _KEPT_BYTES:
                self._size -= len(self._kept.popitem(last=False)[1])
        return content

    def _pixels(self, gallery: Gallery, row: ImageRow) -> np.ndarray:
        places = {root.id: root.location for root in all_roots(gallery)}
        path = os.path.join(places[row.root_id], row.path)
        clip = split_frame_path(path)
        if clip is None or os.path.lexists(path):
            data = read_bytes(path).data
            if blake2b(data, digest_size=32).digest() == row.content_hash:
                return decode_picture(data, row.path).pixels
        elif frame_digest(self._video_digest(clip[0]), clip[1]) == row.content_hash:
            return read_picture(path).pixels
        raise BadImageError(f"{row.path}: its file holds something else than was enrolled")

    def _video_digest(self, path: str) -> bytes:
        """Of a whole video file, which takes a while: kept while its size and time stay."""
        with open_regular(path) as file:
            facts = os.fstat(file.fileno())
            key = (path, facts.st_size, facts.st_mtime_ns)
            with self._lock:
                if key in self._digests:
                    return self._digests[key]
            digest = blake2b(digest_size=32)
            while part := file.read(1 << 20):
                digest.update(part)
        with self._lock:
            self._digests[key] = digest.digest()
            while len(self._digests) > _KEPT_DIGESTS:
                self._digests.popitem(last=False)
        return digest.digest()


def jpeg_of(pixels: np.ndarray, side: int, quality: int = 85) -> bytes:
    """(H, W, 3) uint8 RGB to a JPEG whose longer side is at most ``side`` pixels."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    made, content = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not made:
        raise BadImageError("the picture cannot be written as JPEG")
    return content.tobytes()
