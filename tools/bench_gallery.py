"""What a gallery costs as it grows: opening, adding one image, listing, removing, at 1,000, 10,000 and 100,000 images.

    python tools/bench_gallery.py [--images 1000 10000 100000] [--regions 30] [--folder DIR] [--json]

Images are made up, with regions, masks and codes of real size; descriptors are not kept, as by default once a gallery
is coded. ``open_s``: a gallery that was closed, opened and made ready for a search, all its codes read. ``add_ms``: one
image added and committed to the disk, beyond what the networks take; ``add_in_batch_ms``: the same for one of 64 in a
batch. ``list_page_ms``: the first 1,000 images; ``remove_ms``: one image found by its path and removed, committed.
Medians; p95 beside those that wait for the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import results_file

from edge_claid import ops
from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.records import Described, Descriptors, Regions

DIM, WIDTH, CODE_BYTES = 2192, 256, 16  # of the default pipeline
GRID = (32, 32)
BATCH, REPEATS = 64, 40
COPIED = 1000


def path_of(number: int) -> str:
    return f"folder{number // 1000:03}/picture{number:06}.jpg"


class Images:
    """Made-up images, each with a path and content of its own."""

    def __init__(self, regions: int):
        rng = np.random.default_rng(0)
        self._rng, self.number = rng, 0
        corners = np.sort(rng.uniform(0, 640, (regions, 2, 2)), axis=1).reshape(regions, 4).astype(np.float32)
        parents = np.array([-1, *(i // 2 for i in range(regions - 1))], np.int32)
        # Blobs, as regions are, so that the masks pack as real ones do.
        tokens = np.zeros((regions, *GRID), np.uint8)
        for mask, (x, y) in zip(tokens, rng.integers(0, 24, (regions, 2)), strict=True):
            mask[y : y + 8, x : x + 8] = rng.random((8, 8)) < 0.85
        masks = np.packbits(tokens.reshape(regions, -1), axis=1, bitorder="little")
        areas, shares = tokens.sum((1, 2)).astype(np.int32), rng.random((2, regions)).astype(np.float32)
        depths = np.ones(regions, np.int32)
        self._regions = Regions(corners, parents, depths, areas, shares[0], shares[1], masks, GRID, (640, 480))
        values = rng.normal(size=(64, regions, DIM)).astype(np.float32)
        self._values = values / np.linalg.norm(values, axis=2, keepdims=True)

    def name(self) -> str:
        """Path of one image more."""
        self.number += 1
        return path_of(self.number)

    def new(self) -> NewImage:
        name = self.name()
        values = np.roll(self._values[self.number % len(self._values)], self.number // len(self._values), axis=1)
        described = Described(self._regions, Descriptors(values))
        return NewImage(1, name, self._rng.bytes(32), 3_000_000, 1_700_000_000_000_000_000, described, label="shelf")


def space() -> CodeSpace:
    rng = np.random.default_rng(0)
    projection = Projection(np.zeros(DIM, np.float32), rng.normal(size=(DIM, WIDTH)).astype(np.float32))
    return CodeSpace(projection, CodeBook(None, rng.normal(size=(CODE_BYTES, 256, WIDTH // CODE_BYTES)).astype("f4")))


def grow(path: Path, images: Images, count: int) -> None:
    """Add images until there are so many: the first thousand as enrolment does, the rest copied from these in SQL."""
    with Gallery.open(path, "create") as gallery:
        gallery.bind("made-up", {}, DIM)
        register_root(gallery, str(path.parent), "photos")
        if gallery.space is None:
            gallery.adopt_space(space())
        while len(gallery) < min(count, COPIED):
            gallery.add([images.new() for _ in range(min(BATCH, count - len(gallery)))])
        while len(gallery) < count:
            with gallery.writing() as connection:
                _copy(connection, images, min(BATCH, count - len(gallery)))


def _copy(connection: sqlite3.Connection, images: Images, count: int) -> None:
    first = [row[0] for row in connection.execute(f"SELECT id FROM images ORDER BY id LIMIT {COPIED // 2}")]
    for _ in range(count):
        name, content = images.name(), os.urandom(32)
        like = first[images.number % len(first)]
        new = connection.execute(
            "INSERT INTO images (root, path, hash, size, mtime_ns, width, height, regions, label)"
            " SELECT root, ?, ?, size, mtime_ns, width, height, regions, label FROM images WHERE id = ?",
            (name.encode(), content, like),
        ).lastrowid
        for table in ("regions", "masks", "codes"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")][1:]
            listed = ", ".join(columns)
            query = f"INSERT INTO {table} (image, {listed}) SELECT ?, {listed} FROM {table} WHERE image = ?"
            connection.execute(query, (new, like))


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> np.ndarray:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return np.array(times)


def measure(path: Path, images: Images) -> dict[str, float]:
    """All figures of the gallery as it is; it grows by some hundred images."""

    def opened() -> None:
        with Gallery.open(path) as gallery:
            GallerySearch(gallery, ops.load().code_scan)

    figures: dict[str, float] = {"bytes": os.path.getsize(path), "open_s": float(np.median(seconds(opened, 7)))}
    with Gallery.open(path, "rw") as gallery:
        add = seconds(lambda: gallery.add([images.new()])) * 1000
        batch = seconds(lambda: gallery.add([images.new() for _ in range(BATCH)]), 5) * 1000 / BATCH
        page = seconds(lambda: list(islice(gallery.images(), 1000))) * 1000
        # Spread over the gallery, so that each is on pages of its own.
        last = images.number
        paths = iter([path_of(n) for n in range(last // 97, last, last // 97)])
        remove = seconds(lambda: gallery.remove(row.id for row in gallery.images_at(next(paths)))) * 1000
        figures |= {"add_ms": np.median(add), "add_p95_ms": np.percentile(add, 95), "add_in_batch_ms": np.median(batch)}
        figures |= {"list_page_ms": np.median(page)}
        figures |= {"remove_ms": np.median(remove), "remove_p95_ms": np.percentile(remove, 95)}
        figures["info_ms"] = np.median(seconds(gallery.info, 5)) * 1000
    return {name: round(float(value), 3) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--regions", type=int, default=30, help="of an image")
    parser.add_argument("--folder", type=Path, help="where to work; the disk matters")
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "gallery.json")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    by_size: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path, images = Path(folder) / "bench.claid", Images(arguments.regions)
        for count in sorted(arguments.images):
            grow(path, images, count)
            by_size[str(count)] = measure(path, images)
    result: dict[str, Any] = {"regions_an_image": arguments.regions, "by_images": by_size}
    results_file.write(arguments.out, {"growth": result})
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
