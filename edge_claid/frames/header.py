"""What the first bytes of a picture say, read without decoding it.

A picture is decoded only after its own header has named a known format and a size within the limits, so a small file
that unfolds to gigabytes is refused here. Nothing in this file trusts a length it has not checked.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_claid.frames import heic


@dataclass(frozen=True)
class Header:
    """Format name, stored (not yet upright) width and height in pixels, whether transparency is possible."""

    format: str
    width: int
    height: int
    alpha: bool = False


class HeaderError(ValueError):
    """The bytes claim a known format, but its header is broken or incomplete."""


def sniff(data: bytes) -> str | None:
    """Format name by the first 32 bytes, or None where no known picture format begins so."""
    for name, matches in _SIGNATURES.items():
        if matches(data):
            return name
    return None


def read_header(data: bytes) -> Header | None:
    """Header of a picture in memory, or None where the bytes are no picture of a known format.

    Raises HeaderError where the format is known and the header cannot be read.
    """
    name = sniff(data)
    if name is None:
        return None
    try:
        return _READERS[name](data)
    except (struct.error, IndexError) as error:
        raise HeaderError(f"its {name} header is cut off") from error


def truncation(data: bytes, name: str) -> str | None:
    """Why the picture is incomplete, or None. Some decoders fill what is missing with grey and say nothing."""
    if name == "JPEG" and not _jpeg_ends(data):
        return "the JPEG has no end marker"
    if name == "PNG" and not any(kind == b"IEND" for kind, _ in png_chunks(data)):
        return "the PNG has no IEND chunk"
    if name == "WebP" and len(data) < int.from_bytes(data[4:8], "little") + 8:
        return "the WebP is shorter than its header says"
    return None


_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda d: d[:3] == b"\xff\xd8\xff",
    "PNG": lambda d: d[:8] == b"\x89PNG\r\n\x1a\n",
    "GIF": lambda d: d[:6] in (b"GIF87a", b"GIF89a"),
    "WebP": lambda d: d[:4] == b"RIFF" and d[8:12] == b"WEBP",
    "BMP": lambda d: d[:2] == b"BM" and d[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"),
    "TIFF": lambda d: d[:4] in (b"II*\0", b"MM\0*"),
    "HEIC": heic.is_heic,
}

# Every start-of-frame marker; 0xC4, 0xC8 and 0xCC are tables and an extension that never hold a size.
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = {0x01, *range(0xD0, 0xD9)}


def jpeg_segments(data: bytes, start: int = 2) -> Iterator[tuple[int, int, int]]:
    """(marker, first payload byte, end) of the segments before the first scan, that scan's header last."""
    at = start
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_BARE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            return
        yield marker, at + 4, at + 2 + length
        if marker == 0xDA:
            return
        at += 2 + length


def _jpeg(data: bytes) -> Header:
    for marker, first, _ in jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, first + 1)
            if height == 0:
                raise HeaderError("its JPEG height is given only after the picture (DNL), which is not read")
            return Header("JPEG", width, height)
    raise HeaderError("its JPEG header names no size")


def _jpeg_ends(data: bytes) -> bool:
    """True where an end-of-image marker follows the entropy-coded data; an EXIF thumbnail's marker does not count."""
    scan = next((end for marker, _, end in jpeg_segments(data) if marker == 0xDA), None)
    at = scan if scan is not None else len(data)
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF:
            at += 1
        elif marker == 0 or marker in _JPEG_BARE:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return False


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of every complete chunk, in order; stops at the first one that is cut off."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            return
        kind = data[at + 4 : at + 8]
        # Only small chunks are ever looked into, so pixel data is not copied.
        yield kind, data[at + 8 : at + 8 + length] if kind != b"IDAT" else b""
        at += 12 + length


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise HeaderError("its PNG does not begin with IHDR")
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    # A tRNS chunk, if any, stands before the pixel data.
    transparent = colour in (4, 6) or b"tRNS" in data[: data.find(b"IDAT") if b"IDAT" in data else len(data)]
    return Header("PNG", width, height, transparent)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", width, height, True)


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return Header("WebP", width, height, bool(data[20] & 0x10))
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    raise HeaderError("its WebP holds no known kind of picture")


def _bmp(data: bytes) -> Header:
    if data[14] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", width, abs(height))


def _tiff(data: bytes) -> Header:
    fields = tiff_fields(data)
    if 256 not in fields or 257 not in fields:
        raise HeaderError("its TIFF names no size")
    return Header("TIFF", int(fields[256]), int(fields[257]), 338 in fields)


def _heic(data: bytes) -> Header:
    size = heic.stored_size(data)
    if size is None:
        raise HeaderError("its HEIC header names no size")
    return Header("HEIC", *size, True)


def tiff_fields(data: bytes, at: int | None = None) -> dict[int, int]:
    """Tag number to first value (or to the offset of it, where it is no short integer) of one TIFF directory.

    data: the TIFF block, which EXIF is too. at: offset of the directory; the first one where None.
    """
    order = "<" if data[:2] == b"II" else ">"
    if at is None:
        at = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, at)[0]
    fields: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        width = {1: "B", 3: "H"}.get(kind, "I")
        fields[tag] = struct.unpack_from(order + width, data, entry + 8)[0]
    return fields


_READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WebP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
    "HEIC": _heic,
}
