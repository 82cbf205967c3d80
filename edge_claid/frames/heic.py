"""HEIC pictures, by the optional library pillow-heif (libheif); sized by our own reading of their boxes before that.

ISO/IEC 14496-12 (boxes) and 23008-12 (HEIF): ``ftyp`` names the brand; ``meta/iprp/ipco/ispe`` states the width and
height of every picture in the file, the largest being the one that is assembled from tiles.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
# Brands that say no more than that it is a HEIF of some codec; the compatible brands tell which.
_GENERAL = (b"mif1", b"msf1")
_INSTALL = "pip install 'edge-claid[heic]'"
_PATH = (b"meta", b"iprp", b"ipco")
_MOST_BOXES = 10_000
# What pillow-heif raises for content that libheif refuses.
_BROKEN = (ValueError, OSError, RuntimeError, EOFError, SyntaxError, LookupError)


class MissingLibraryError(ImportError):
    """pillow-heif is not installed."""


def is_heic(data: bytes) -> bool:
    """True where the first bytes (32 are enough for most) are those of a HEVC-coded HEIF."""
    if data[4:8] != b"ftyp":
        return False
    brand, compatible = data[8:12], data[16 : min(len(data), struct.unpack(">I", data[:4])[0])]
    return brand in BRANDS or (brand in _GENERAL and any(one in compatible for one in BRANDS))


def stored_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the largest picture of a HEIC file, or None where it states none."""
    sizes = []
    for kind, start, end in _boxes_along(data, _PATH):
        if kind == b"ispe" and end - start >= 12:
            sizes.append(struct.unpack_from(">II", data, start + 4))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def decode(data: bytes) -> np.ndarray:
    """(H, W, 3 or 4) uint8 RGB or RGBA of the primary picture, turned upright by the file's own transformations.

    Raises MissingLibraryError, ValueError where the content is broken.
    """
    picture = _opened(data)
    try:
        pixels = np.asarray(picture)
    except _BROKEN as error:
        raise ValueError(str(error)) from error
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"pixels of shape {pixels.shape}, {pixels.dtype}")
    return pixels


def exif_block(data: bytes) -> bytes | None:
    """The EXIF block (a TIFF), or None. Its orientation is stated once more: ``decode`` has applied it."""
    try:
        block = _opened(data).info.get("exif")
    except (ValueError, MissingLibraryError):
        return None
    return block[6:] if block and block[:6] == b"Exif\0\0" else block


def _opened(data: bytes) -> Any:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingLibraryError(f"HEIC pictures need an extra library: {_INSTALL}") from error
    try:
        file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    except _BROKEN as error:
        raise ValueError(str(error)) from error
    if not len(file):
        raise ValueError("it holds no picture")
    return file


def _boxes_along(data: bytes, path: tuple[bytes, ...]) -> Iterator[tuple[bytes, int, int]]:
    """(type, first content byte, end) of the boxes in the container at the end of ``path``."""
    start, end = 0, len(data)
    for wanted in path:
        inner = next(((at, stop) for kind, at, stop in _boxes(data, start, end) if kind == wanted), None)
        if inner is None:
            return
        # A "meta" box has a version and flags before its content.
        start, end = inner[0] + (4 if wanted == b"meta" else 0), inner[1]
    yield from _boxes(data, start, end)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        size = end - start if size == 0 else size
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size
