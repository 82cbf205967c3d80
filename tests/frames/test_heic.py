"""HEIC pictures: sized before they are decoded, upright, with their EXIF; told how to install what is missing."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_claid.errors import BadImageError
from edge_claid.frames import heic
from edge_claid.frames.exif import read_exif
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.frames.folder import PictureFiles
from edge_claid.frames.header import read_header
from edge_claid.frames.reading import decode_picture, read_picture

BOX = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install 'edge-claid[heic]'")


@pytest.fixture(scope="module")
def content(library) -> bytes:  # type: ignore[no-untyped-def]
    """A picture of 160 x 96 pixels, red above blue, turned by its EXIF orientation 6."""
    pixels = np.zeros((96, 160, 3), np.uint8)
    pixels[:48, :, 0], pixels[48:, :, 2] = 200, 200
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2024:05:01 10:20:30"
    out = io.BytesIO()
    file = library.from_pillow(Image.fromarray(pixels))
    file.save(out, quality=90, exif=exif.tobytes())
    return out.getvalue()


def test_read_upright_with_its_time(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(content)
    assert (read_header(content).format, read_header(content).width) == ("HEIC", 160)
    frame = read_picture(path)
    left, right = frame.pixels[:, 10].mean(0), frame.pixels[:, -10].mean(0)
    assert frame.size == (96, 160)
    # A quarter turn clockwise brings what was above to the right.
    assert right[0] > 150 > 60 > right[2]
    assert left[2] > 150 > 60 > left[0]
    assert read_exif(content, "HEIC").taken == "2024-05-01T10:20:30"
    assert read_exif(content, "HEIC").orientation == 1
    assert len(list(PictureFiles("p", str(tmp_path)))) == 1


def test_too_large_is_refused_before_it_is_decoded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "decode", lambda data: pytest.fail("decoded"))
    with pytest.raises(BadImageError, match="too large"):
        decode_picture(content, "x", ReadLimits(pixels=10_000))


def test_broken_content_is_rejected(content: bytes) -> None:
    rng = np.random.default_rng(0)
    rejected = 0
    for round_number in range(120):
        broken = bytearray(content)
        for _ in range(int(rng.integers(1, 20))):
            broken[rng.integers(0, len(broken))] = rng.integers(0, 256)
        if round_number % 3 == 0:
            del broken[rng.integers(8, len(broken)) :]
        try:
            decode_picture(bytes(broken), "x")
        except BadImageError:
            rejected += 1
    assert rejected > 30


def test_missing_library_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(heic, "stored_size", lambda data: (100, 100))
    with pytest.raises(BadImageError, match=r"pip install 'edge-claid\[heic\]'"):
        decode_picture(BOX + bytes(100), "x.heic")


def test_header_that_names_no_size_or_loops() -> None:
    with pytest.raises(BadImageError, match="names no size"):
        decode_picture(BOX, "x.heic")
    assert heic.stored_size(BOX + b"\0\0\0\0meta\0\0\0\0" + b"\0\0\0\x08iprp" * 50) is None
    assert not heic.is_heic(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif")
