"""Small pictures of a gallery's images, from the files they were enrolled from."""

from __future__ import annotations

import os
from collections.abc import Callable

import cv2

from edge_claid.errors import BadImageError, UsageError
from edge_claid.frames.reading import read_picture
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery

SIDE = 200  # pixels of the longer side


def thumbnail_maker(store: Gallery) -> Callable[[ImageRow], bytes | str]:
    """A function from an image to its JPEG, or to the reason why its file gives none."""
    places = {root.id: root.location for root in all_roots(store)}

    def thumbnail(row: ImageRow) -> bytes | str:
        try:
            pixels = read_picture(os.path.join(places[row.root_id], row.path)).pixels
        except (BadImageError, UsageError):
            return "its file cannot be read any more"
        height, width = pixels.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        made, content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
        return content.tobytes() if made else "it cannot be made smaller"

    return thumbnail
