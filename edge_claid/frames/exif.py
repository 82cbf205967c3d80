"""Orientation, time and place from a picture's EXIF block (CIPA DC-008), read with bounds and nothing executed."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from edge_claid.frames import heic
from edge_claid.frames.header import jpeg_segments, png_chunks, tiff_fields

_ORIENTATION, _DATE_TIME, _EXIF, _GPS, _ORIGINAL = 0x0112, 0x0132, 0x8769, 0x8825, 0x9003


@dataclass(frozen=True)
class Exif:
    """orientation: 1 to 8. taken: ISO time without zone, or None. latitude, longitude: degrees, or None."""

    orientation: int = 1
    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def read_exif(data: bytes, name: str) -> Exif:
    """EXIF of a picture in memory (name: its format); what is missing or broken is left at its default."""
    block = _exif_block(data, name)
    if block is None or block[:4] not in (b"II*\0", b"MM\0*"):
        return Exif()
    try:
        fields = tiff_fields(block)
    except struct.error:
        return Exif()
    # A HEIC is turned by properties of its own, which its decoder applies.
    orientation = fields.get(_ORIENTATION, 1) if name != "HEIC" else 1
    latitude, longitude = _place(block, fields)
    return Exif(orientation if 1 <= orientation <= 8 else 1, _taken(block, fields), latitude, longitude)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W[, C]) pixels as EXIF orientation 1 to 8 asks; contiguous."""
    if orientation in (2, 3):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4):
        pixels = pixels[::-1]
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
        pixels = pixels[:, ::-1] if orientation in (6, 7) else pixels
        pixels = pixels[::-1] if orientation in (7, 8) else pixels
    return np.ascontiguousarray(pixels)


def tiff_as_stored(data: bytes) -> bytes:
    """A TIFF whose orientation says upright, for decoders that turn what they read whether asked to or not."""
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack_from(order + "I", data, 4)[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from(order + "H", data, at)[0], 12):
        if struct.unpack_from(order + "H", data, entry)[0] == _ORIENTATION:
            patched = bytearray(data)
            struct.pack_into(order + "H", patched, entry + 8, 1)
            return bytes(patched)
    return data


def _exif_block(data: bytes, name: str) -> bytes | None:
    if name == "TIFF":
        return data
    if name == "JPEG":
        for marker, first, end in jpeg_segments(data):
            if marker == 0xE1 and data[first : first + 6] == b"Exif\0\0":
                return data[first + 6 : end]
    if name == "PNG":
        return next((content for kind, content in png_chunks(data) if kind == b"eXIf"), None)
    if name == "WebP":
        return _webp_exif(data)
    return heic.exif_block(data) if name == "HEIC" else None


def _webp_exif(data: bytes) -> bytes | None:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            content = data[at + 8 : at + 8 + length]
            return content[6:] if content[:6] == b"Exif\0\0" else content
        at += 8 + length + length % 2
    return None


def _taken(block: bytes, fields: dict[int, int]) -> str | None:
    at = fields.get(_DATE_TIME)
    try:
        if _EXIF in fields:
            at = tiff_fields(block, fields[_EXIF]).get(_ORIGINAL, at)
    except struct.error:
        pass
    if at is None:
        return None
    match = re.match(rb"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)", block[at : at + 20])
    if match is None or match[1] == b"0000":
        return None
    year, month, day, hour, minute, second = (part.decode() for part in match.groups())
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}"


def _place(block: bytes, fields: dict[int, int]) -> tuple[float | None, float | None]:
    order = "<" if block[:2] == b"II" else ">"
    try:
        gps = tiff_fields(block, fields[_GPS])
        degrees = []
        for reference, value in ((1, 2), (3, 4)):
            parts = struct.unpack_from(order + "6I", block, gps[value])
            size = sum(parts[2 * i] / parts[2 * i + 1] / 60**i for i in range(3))
            # The reference is one letter, kept in the first byte of its four-byte field in either byte order.
            letter = struct.pack(order + "I", gps[reference])[:1]
            degrees.append(-size if letter in b"SW" else size)
    except (KeyError, struct.error, ZeroDivisionError):
        return None, None
    latitude, longitude = degrees
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else (None, None)
