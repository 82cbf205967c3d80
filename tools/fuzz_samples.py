"""Samples for fuzzing: small valid pictures, galleries and write-ahead logs, and what becomes of them when mutated."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.records import Described, Descriptors, Regions

GALLERY = "gallery"  # in the folder of the cases: what a fuzzed log is laid beside
_ODD = (None, "text", b"\x00\xff", -1, 2**62, 1.5, float("inf"), 0, "", b"", b"\xed\xa0\x80")


def sample_pictures() -> list[bytes]:
    """Small valid pictures of every format and colour kind."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0132] = "2020:01:02 03:04:05"
    kinds: list[tuple[Image.Image, str, dict]] = [(rgb, f, {}) for f in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")]
    kinds += [(rgb, f, {"exif": exif}) for f in ("JPEG", "PNG", "WEBP", "TIFF")]
    kinds += [(rgb.convert("CMYK"), f, {}) for f in ("JPEG", "TIFF")]
    kinds += [(rgb.convert("RGBA"), f, {}) for f in ("PNG", "WEBP", "TIFF")]
    kinds += [(rgb.convert("P"), f, {}) for f in ("PNG", "GIF", "BMP", "TIFF")]
    kinds += [(rgb, "TIFF", {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
    kinds += [(rgb, "JPEG", {"progressive": True}), (rgb, "WEBP", {"lossless": True})]
    kinds += [(rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90)]})]
    samples = []
    for image, format, save in kinds:
        out = io.BytesIO()
        image.save(out, format, **save)
        samples.append(out.getvalue())
    deep = rng.integers(0, 65536, (30, 40), np.uint16)
    samples.append(cv2.imencode(".png", deep)[1].tobytes())
    return samples + _sample_heics(rgb, exif)


def _sample_heics(rgb: Image.Image, exif: Image.Exif) -> list[bytes]:
    """HEIC pictures, none where pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return []
    samples = []
    for image in (rgb, rgb.convert("RGBA"), rgb.resize((200, 150))):
        out = io.BytesIO()
        pillow_heif.from_pillow(image).save(out, quality=60, exif=exif.tobytes())
        samples.append(out.getvalue())
    return samples


def sample_galleries(folder: Path) -> list[bytes]:
    """An empty gallery, one of some images, and one of as many that are coded."""
    contents = []
    for count, coded in ((0, False), (30, False), (30, True)):
        path = folder / "sample.claid"
        with Gallery.open(path, "create") as gallery:
            gallery.bind("aa", {"network": "made-up"}, 16)
            register_root(gallery, "/nowhere", "photos")
            gallery.add([made_up_image(i) for i in range(count)])
            if coded:
                gallery.adopt_space(made_up_space())
        contents.append(path.read_bytes())
        path.unlink()
    return contents


def sample_logs(folder: Path) -> list[bytes]:
    """The write-ahead log that holds a gallery's last images; the gallery without it is laid down as ``GALLERY``."""
    path = folder / "logged.claid"
    (folder / GALLERY).write_bytes(sample_galleries(folder)[1])
    shutil.copy(folder / GALLERY, path)
    with Gallery.open(path, "rw") as gallery:
        gallery.add([made_up_image(i) for i in range(100, 110)])
        log = Path(f"{path}-wal").read_bytes()
    path.unlink()
    return [log]


def made_up_space() -> CodeSpace:
    """Of four bytes a region, some pages long."""
    centroids = np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32)
    return CodeSpace(Projection(np.zeros(16, np.float32), np.eye(16, dtype=np.float32)), CodeBook(None, centroids))


def made_up_image(seed: int) -> NewImage:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9))
    zeros = np.zeros(count, np.int32)
    shares = np.ones(count, np.float32)
    boxes = np.tile(np.float32([0, 0, 40, 30]), (count, 1))
    masks = rng.integers(0, 256, (count, 5), np.uint8)
    regions = Regions(boxes, zeros - 1, zeros, zeros, shares, shares, masks, (5, 8), (40, 30))
    described = Described(regions, Descriptors(rng.normal(size=(count, 16)).astype(np.float32)))
    return NewImage(1, f"{seed}.png", rng.bytes(32), 10, 20, described, label="a" if seed % 2 else None)


def mutated(samples: list[bytes], rng: np.random.Generator) -> bytes:
    """One sample with bits flipped, bytes set to telling values, pieces cut, doubled or swapped with another sample."""
    content = bytearray(samples[rng.integers(len(samples))])
    for _ in range(int(rng.integers(1, 6))):
        if not content:
            break
        # Headers matter most: half of all changes fall into the first bytes.
        reach = min(len(content), 200) if rng.random() < 0.5 else len(content)
        at = int(rng.integers(reach))
        length = int(rng.integers(1, 1 + max(1, len(content) // 8)))
        kind = rng.integers(6)
        if kind == 0:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            word = (0, 1, 0x7F, 0x80, 0xFF)[rng.integers(5)]
            content[at : at + 4] = bytes([word]) * len(content[at : at + 4])
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length]
        elif kind == 4:
            other = samples[rng.integers(len(samples))]
            content[at : at + length] = other[at : at + length]
        else:
            del content[at:]
    return bytes(content)


def with_odd_values(gallery: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    """A gallery whose pages are sound and some of whose values are of another type or size than any we write."""
    path = folder / "odd.db"
    path.write_bytes(gallery)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        layout = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        connection.execute("PRAGMA writable_schema = ON")
        loose = "UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'"
        connection.execute(loose)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for _ in range(int(rng.integers(1, 4))):
            table = tables[rng.integers(len(tables))]
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            value = _ODD[rng.integers(len(_ODD))]
            column = columns[rng.integers(len(columns))]
            few = "" if rng.random() < 0.3 else f" WHERE _rowid_ % 7 = {rng.integers(7)}"
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f"UPDATE {table} SET {column} = ?{few if table != 'meta' else ''}", (value,))
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("UPDATE sqlite_master SET sql = ? WHERE name = ?", [(sql, name) for name, sql in layout])
    return path.read_bytes()


def sealed(log: bytes) -> bytes:
    """A write-ahead log with checksums that fit (SQLite's "WAL-mode File Format" §4.2), the page size kept."""
    if len(log) < 32:
        return log
    order = ">u4" if log[3] & 1 else "<u4"
    content = bytearray(log)
    content[24:32] = struct.pack(">2I", *_checksum(log[:24], order, (0, 0)))
    salts, frame = content[16:24], 24 + 4096
    sums = struct.unpack(">2I", content[24:32])
    for at in range(32, len(content) - frame + 1, frame):
        content[at + 8 : at + 16] = salts
        sums = _checksum(content[at : at + 8] + content[at + 24 : at + frame], order, sums)
        content[at + 16 : at + 24] = struct.pack(">2I", *sums)
    return bytes(content)


def _checksum(content: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = np.frombuffer(bytes(content), order).tolist()
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
