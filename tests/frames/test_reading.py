"""The picture reader: formats and colour kinds come out right, broken and hostile files are refused with a reason."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_claid.errors import BadImageError
from edge_claid.frames import ReadLimits, read_picture
from edge_claid.frames.exif import read_exif, upright
from edge_claid.frames.reading import NotAPictureError, check_picture, decode_picture

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


def four_colours(width: int = 64, height: int = 48) -> np.ndarray:
    """Red, green / blue, grey quarters: every turn and channel mistake shows."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 200, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 200)
    pixels[height // 2 :, width // 2 :] = (120, 120, 120)
    return pixels


def encoded(image: Image.Image | np.ndarray, format: str, **save: object) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    out = io.BytesIO()
    image.save(out, format, **save)
    return out.getvalue()


def assert_alike(pixels: np.ndarray, expected: np.ndarray, tolerance: int = 12) -> None:
    """Equal but for the losses of coding, away from the quarters' edges."""
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert pixels.flags.c_contiguous
    apart = np.abs(pixels.astype(int) - expected.astype(int))
    assert np.median(apart) <= tolerance
    assert apart[4, 4].max() <= tolerance
    assert apart[-5, 4].max() <= tolerance
    assert apart[4, -5].max() <= tolerance


@pytest.mark.parametrize("format", FORMATS)
def test_rgb(format: str) -> None:
    save = {"lossless": True} if format == "WEBP" else {}
    assert_alike(decode_picture(encoded(four_colours(), format, **save)).pixels, four_colours())


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format: str) -> None:
    data = encoded(Image.fromarray(four_colours()).convert("CMYK"), format)
    assert_alike(decode_picture(data).pixels, four_colours(), 20)


@pytest.mark.parametrize("format", FORMATS)
def test_grey(format: str) -> None:
    grey = Image.fromarray(four_colours()).convert("L")
    assert_alike(decode_picture(encoded(grey, format)).pixels, np.repeat(np.array(grey)[..., None], 3, 2))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits(format: str) -> None:
    grey = np.array(Image.fromarray(four_colours()).convert("L"))
    data = encoded(Image.fromarray(grey.astype(np.uint16) * 257), format)
    assert_alike(decode_picture(data).pixels, np.repeat(grey[..., None], 3, 2), 1)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_alpha_lies_on_white(format: str) -> None:
    rgba = np.dstack([four_colours(), np.full((48, 64), 255, np.uint8)])
    rgba[:24, :32, 3] = 0
    rgba[24:, :32, 3] = 128
    data = encoded(Image.fromarray(rgba), format, **({"lossless": True} if format == "WEBP" else {}))
    pixels = decode_picture(data).pixels
    assert pixels[5, 5].tolist() == [255, 255, 255]
    np.testing.assert_allclose(pixels[40, 5], [142, 142, 227], atol=2)
    assert pixels[5, 60].tolist() == [30, 200, 30]


def test_transparent_colour_of_a_palette_lies_on_white() -> None:
    palette = Image.fromarray(four_colours()).convert("P")
    pixels = decode_picture(encoded(palette, "PNG", transparency=palette.getpixel((2, 2)))).pixels
    assert pixels[2, 2].tolist() == [255, 255, 255]
    assert pixels[2, 60].tolist() != [255, 255, 255]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_picture(format: str) -> None:
    frames = [Image.fromarray(four_colours()), Image.fromarray(four_colours()[::-1].copy())]
    save = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **save)
    assert_alike(decode_picture(data).pixels, four_colours())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(format: str, orientation: int) -> None:
    turned = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    stored = upright(four_colours(), turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_picture(encoded(stored, format, exif=exif)).pixels
    assert_alike(pixels, four_colours(), 40)


def test_exif_time_and_place() -> None:
    exif = Image.Exif()
    exif[0x0132] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x9003] = "2021:12:31 23:59:58"
    gps = exif.get_ifd(0x8825)
    gps.update({1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)})
    for format in ("JPEG", "PNG", "WEBP"):
        data = encoded(four_colours(), format, exif=exif)
        facts = read_exif(data, "WebP" if format == "WEBP" else format)
        assert facts.taken == "2021-12-31T23:59:58"
        assert facts.latitude == pytest.approx(-33.86, abs=1e-6)
        assert facts.longitude == pytest.approx(151.2, abs=1e-6)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_truncated(format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    data = encoded(noise, format)
    with pytest.raises(BadImageError):
        decode_picture(data[: int(len(data) * share)], "x")


def test_truncated_jpeg_with_a_whole_thumbnail_is_noticed() -> None:
    thumbnail = encoded(four_colours(32, 24), "JPEG")
    data = encoded(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8), "JPEG")
    app1 = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + app1 + data[2:]
    assert decode_picture(whole).size == (640, 480)
    with pytest.raises(BadImageError, match="end marker"):
        decode_picture(whole[: len(whole) // 2])


def test_bytes_after_the_end_do_no_harm() -> None:
    for format in FORMATS:
        data = encoded(four_colours(), format) + b"\0trailing bytes of a camera" * 3
        assert decode_picture(data).size == (64, 48)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am text", "not a picture"),
        (b"\xff\xd8\xff\xe0", "header"),
        (b"\x89PNG\r\n\x1a\n", "header|IHDR"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "header|cut off"),
        (b"II*\0\xff\xff\xff\xff" + bytes(40), "header"),
        (b"GIF89a", "header"),
    ],
)
def test_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=reason):
        decode_picture(data, "x")


def test_a_tiff_of_32_bits_says_so_and_opencv_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadImageError, match=r"x\.tif: a TIFF of float32 values .* 8 or 16 bits"):
        decode_picture(encoded(Image.new("F", (64, 48)), "TIFF"), "x.tif")
    assert capfd.readouterr().err == ""


def test_what_is_no_picture_is_told_from_what_is_a_bad_one() -> None:
    with pytest.raises(NotAPictureError):
        check_picture(b"#!/bin/sh\necho", "x")


@pytest.mark.parametrize("size", [(1, 1), (2, 100), (100, 15)])
def test_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(BadImageError, match="too small"):
        decode_picture(encoded(Image.new("RGB", size), "PNG"))


def test_a_bomb_is_refused_by_its_header() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    with pytest.raises(BadImageError, match="too large"):
        decode_picture(bomb)


def test_a_hundred_megapixels_are_refused_without_being_decoded() -> None:
    data = encoded(Image.new("1", (10_000, 10_000)), "PNG")
    with pytest.raises(BadImageError, match="10000x10000 pixels, too large"):
        decode_picture(data)
    with pytest.raises(BadImageError, match="too large"):
        decode_picture(encoded(four_colours(), "PNG"), limits=ReadLimits(pixels=3000))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(four_colours(), "PNG"))
    frame = read_picture(path)
    assert frame.name == str(path)
    with pytest.raises(BadImageError, match="more than the limit"):
        read_picture(path, ReadLimits(bytes=10))
    with pytest.raises(BadImageError, match="cannot be read"):
        read_picture(tmp_path / "missing.png")
    with pytest.raises(BadImageError, match=r"no regular file|directory"):
        read_picture(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadImageError, match="no regular file"):
        read_picture(tmp_path / "a.png")


SAMPLES = [encoded(four_colours(), format) for format in FORMATS]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), st.data())
def test_changed_bytes_give_a_picture_or_a_reason(sample: bytes, changes: list[tuple[int, int]], data) -> None:
    content = bytearray(sample)
    for at, value in changes:
        content[at % len(content)] = value
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    with contextlib.suppress(BadImageError):
        frame = decode_picture(bytes(content), "x", ReadLimits(pixels=10**6))
        assert frame.pixels.ndim == 3
        assert frame.pixels.dtype == np.uint8


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5))
def test_upright_keeps_every_pixel(orientation: int, height: int, width: int) -> None:
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    back = {6: 8, 8: 6}.get(orientation, orientation)
    np.testing.assert_array_equal(upright(upright(pixels, orientation), back), pixels)
