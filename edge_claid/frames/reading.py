"""Bytes of one picture to a Frame: bounded before it is decoded, upright, 8-bit RGB.

Reads JPEG (grey, RGB, CMYK), PNG, WebP, BMP, TIFF, GIF and, with an optional library, HEIC; of an animation or several
pages the first picture. Transparent parts lie on white, as product pictures with cut-outs are usually shown. 16 bits a
channel become 8.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache

import cv2
import numpy as np

from edge_claid.errors import BadImageError
from edge_claid.frames import heic
from edge_claid.frames.exif import read_exif, tiff_as_stored, upright
from edge_claid.frames.file_bytes import ReadLimits, read_bytes
from edge_claid.frames.header import Header, HeaderError, read_header, truncation
from edge_claid.frames.key_frames import read_frame, split_frame_path
from edge_claid.records import Frame


class NotAPictureError(BadImageError):
    """The bytes are no picture of a known format."""


def read_picture(path: str | os.PathLike[str], limits: ReadLimits | None = None) -> Frame:
    """Read one picture file, or a frame of a video by ``clip.mp4#t=12.000``. Raises BadImageError with the reason."""
    limits = limits or ReadLimits()
    name = os.fspath(path)
    frame = split_frame_path(name)
    if frame is not None:
        return read_frame(*frame, limits)
    return decode_picture(read_bytes(path, limits).data, name, limits)


def check_picture(data: bytes, name: str, limits: ReadLimits | None = None) -> Header:
    """Header of a picture that may be decoded.

    Raises NotAPictureError where the bytes are no known picture, BadImageError where it is empty, truncated, too small
    or too large.
    """
    limits = limits or ReadLimits()
    if not data:
        raise BadImageError(f"{name}: empty file")
    try:
        header = read_header(data)
    except HeaderError as error:
        raise BadImageError(f"{name}: {error}") from error
    if header is None:
        raise NotAPictureError(f"{name}: not a picture of a known format (JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC)")
    width, height = header.width, header.height
    if min(width, height) < limits.smallest:
        raise BadImageError(f"{name}: {width}x{height} pixels, too small (at least {limits.smallest} a side)")
    if width * height > limits.pixels or max(width, height) > limits.side:
        limit = f"{limits.pixels / 1e6:g} megapixels and {limits.side} a side"
        raise BadImageError(f"{name}: {width}x{height} pixels, too large (at most {limit})")
    missing = truncation(data, header.format)
    if missing:
        raise BadImageError(f"{name}: truncated, {missing}")
    return header


def decode_picture(data: bytes, name: str = "", limits: ReadLimits | None = None) -> Frame:
    """Decode one picture in memory. Raises BadImageError (see check_picture, or where its content is broken)."""
    header = check_picture(data, name, limits)
    if header.format == "HEIC":
        return _decoded_heic(data, name, limits or ReadLimits())
    # The orientation is applied here and not by OpenCV, whose versions differ in the formats they turn.
    flags = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    content = tiff_as_stored(data) if header.format == "TIFF" else data
    _silence_opencv()
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise BadImageError(f"{name}: broken {header.format}") from error
    if pixels is None:
        raise BadImageError(f"{name}: {_refusal(content, header)}")
    if pixels.shape[:2] != (header.height, header.width):
        raise BadImageError(f"{name}: broken {header.format}, its content has another size than its header says")
    return Frame(upright(_rgb8(pixels), read_exif(data, header.format).orientation), name)


def _refusal(content: bytes, header: Header) -> str:
    """Why OpenCV gives no picture: a sound TIFF may hold numbers that are no colours."""
    if header.format == "TIFF":
        with contextlib.suppress(cv2.error, MemoryError):
            numbers = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if numbers is not None and numbers.dtype not in (np.uint8, np.uint16):
                return f"a TIFF of {numbers.dtype} values is not read; convert it to 8 or 16 bits a channel"
    return f"broken or truncated {header.format}"


def _decoded_heic(data: bytes, name: str, limits: ReadLimits) -> Frame:
    try:
        pixels = heic.decode(data)
    except heic.MissingLibraryError as error:
        raise BadImageError(f"{name}: {error}") from error
    except (ValueError, MemoryError) as error:
        raise BadImageError(f"{name}: broken HEIC ({error})") from error
    if pixels.shape[0] * pixels.shape[1] > limits.pixels:
        raise BadImageError(f"{name}: broken HEIC, its content has another size than its header says")
    rgb = np.ascontiguousarray(pixels[..., :3])
    return Frame(_on_white(rgb.copy(), pixels[..., 3]) if pixels.shape[2] == 4 else rgb, name)


def _rgb8(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB from OpenCV's grey, BGR or BGRA of 8 or 16 bits; transparent parts on white."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = np.clip(np.nan_to_num(pixels) * 255, 0, 255).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    rgb = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return _on_white(rgb, pixels[..., 3]) if pixels.shape[2] == 4 else rgb


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 over white by (H, W) uint8 alpha, in bands of rows so that large pictures need little memory."""
    for top in range(0, len(rgb), 256):
        band = rgb[top : top + 256]
        cover = alpha[top : top + 256, :, None].astype(np.uint16)
        if cover.min(initial=255) < 255:
            band[:] = (band * cover + 255 * (255 - cover) + 127) // 255
    return rgb


@cache
def _silence_opencv() -> None:
    """OpenCV's own complaints about broken files would stand beside our one line for each."""
    if "OPENCV_LOG_LEVEL" not in os.environ:
        logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has it at the top
        logging.setLogLevel(0)
