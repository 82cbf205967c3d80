"""Opening a large gallery for search: time, memory, and what keeping in step with it costs.

    python tools/bench_open.py [--regions 3000000 10000000] [--bytes 16] [--folder DIR] [--json]

Writes a made-up gallery (30 regions an image, random codes, boxes and masks of real size, committed in batches as an
enrolment does), then opens it in processes of their own: warm, with the file in the page cache, and cold, after the
file was put out of it (posix_fadvise; what lies below the operating system may still cache). ``compacted``: the same
after `gallery compact`, which lays the codes one behind the other.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
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
from edge_claid.gallery.storage.rows import BOX_BYTES, TREE_BYTES, NewImage, checksum
from edge_claid.gallery.store import Gallery
from edge_claid.records import Described, Descriptors, Regions

REGIONS_AN_IMAGE = 30
DIM = 320
WIDTH = 256
GRID = (32, 32)
MASK_BITS = 320  # of a region's tokens drawn at random, so that masks compress about as those of photographs do
BATCH = 64


def made_up_space(code_bytes: int) -> CodeSpace:
    rng = np.random.default_rng(0)
    projection = Projection(np.zeros(DIM, np.float32), rng.normal(size=(DIM, WIDTH)).astype(np.float32))
    centroids = rng.normal(size=(code_bytes, 256, WIDTH // code_bytes)).astype(np.float32) / 16
    return CodeSpace(projection, CodeBook(None, centroids))


def write_gallery(path: Path, regions: int, code_bytes: int) -> None:
    with Gallery.open(path, "create") as gallery:
        gallery.bind("made-up", {}, DIM)
        register_root(gallery, str(path.parent), "photos")
        gallery.adopt_space(made_up_space(code_bytes))
        rng = np.random.default_rng(1)
        images = regions // REGIONS_AN_IMAGE
        for start in range(0, images, BATCH):
            rows = list(_rows(rng, start, min(start + BATCH, images), code_bytes))
            with gallery.writing() as connection:
                for table, marks in (("images", 14), ("regions", 4), ("masks", 5), ("codes", 5)):
                    query = f"INSERT INTO {table} VALUES ({','.join('?' * marks)})"
                    connection.executemany(query, (row[table] for row in rows))


def _rows(rng: np.random.Generator, start: int, stop: int, code_bytes: int) -> Iterator[dict[str, tuple[Any, ...]]]:
    masks = np.zeros((REGIONS_AN_IMAGE, GRID[0] * GRID[1] // 8), np.uint8)
    masks[:, : MASK_BITS // 8] = rng.integers(0, 256, (REGIONS_AN_IMAGE, MASK_BITS // 8))
    packed = zlib.compress(masks.tobytes(), 6)
    for number in range(start, stop):
        image, name = number + 1, f"2026/shelf {number % 1000:03d}/IMG_{number:07d}.jpg".encode()
        digest = rng.bytes(32)
        corners = np.sort(rng.uniform(0, 1000, (REGIONS_AN_IMAGE, 2, 2)).astype("<f4"), axis=1)
        boxes, tree = corners.tobytes(), bytes(TREE_BYTES * REGIONS_AN_IMAGE)
        codes = rng.bytes(REGIONS_AN_IMAGE * code_bytes)
        assert len(boxes) == REGIONS_AN_IMAGE * BOX_BYTES
        facts = (4_000_000, 1_700_000_000_000_000_000 + number, 4000, 3000, REGIONS_AN_IMAGE)
        yield {
            "images": (image, 1, name, digest, *facts, f"thing {number % 5000}", None, None, None, 0),
            "regions": (image, boxes, tree, checksum(boxes, tree)),
            "masks": (image, *GRID, packed, checksum(packed)),
            "codes": (image, 1, codes, checksum(codes), 0.5),
        }


def opened(path: Path) -> dict[str, float]:
    """Open the gallery for search in this process, which has not done so before, and ask one query."""
    before = resident_bytes()
    start = time.perf_counter()
    with Gallery.open(path, "r") as gallery:
        search = GallerySearch(gallery, ops.load().code_scan)
        seconds = time.perf_counter() - start
        held = resident_bytes() - before
        query = Descriptors(np.random.default_rng(2).normal(size=(1, DIM)).astype(np.float32))
        start = time.perf_counter()
        search.query(query)
        first = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "first_query_ms": first * 1e3, "held_bytes": held, "peak_rss_mb": peak / 2**20}


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def openings(path: Path, regions: int, repeats: int) -> dict[str, Any]:
    """Cold once, then warm; each in a process of its own."""
    drop_from_cache(path)
    runs = []
    for _ in range(1 + repeats):
        command = [sys.executable, __file__, "--opened", str(path)]
        runs.append(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    warm = runs[1:]
    return {
        "cold_seconds": runs[0]["seconds"],
        "warm_seconds": statistics.median(run["seconds"] for run in warm),
        "first_query_ms": statistics.median(run["first_query_ms"] for run in warm),
        "resident_bytes_per_region": statistics.median(run["held_bytes"] for run in warm) / regions,
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
    }


def drop_from_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def keeping_in_step(path: Path, turns: int = 20) -> dict[str, float]:
    """Medians: a look where nothing changed, one image added by a writer, and a search that takes it up."""
    times: dict[str, list[float]] = {"idle_refresh_ms": [], "add_one_image_ms": [], "refresh_ms": []}
    with Gallery.open(path, "rw") as writer, Gallery.open(path, "r") as reader:
        search = GallerySearch(reader, ops.load().code_scan)
        for turn in range(turns):
            image = one_image(turn)
            for name, step in (
                ("idle_refresh_ms", search.refresh),
                ("add_one_image_ms", lambda image=image: writer.add([image])),
                ("refresh_ms", search.refresh),
            ):
                start = time.perf_counter()
                step()
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def one_image(seed: int) -> NewImage:
    rng = np.random.default_rng([3, seed])
    count = REGIONS_AN_IMAGE
    corners = np.sort(rng.uniform(0, 1000, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    zeros, ones = np.zeros(count, np.int32), np.ones(count, np.float32)
    masks = rng.integers(0, 256, (count, GRID[0] * GRID[1] // 8), np.uint8)
    regions = Regions(corners, zeros - 1, zeros, zeros, ones, ones, masks, GRID, (4000, 3000))
    values = rng.normal(size=(count, DIM)).astype(np.float32)
    described = Described(regions, Descriptors(values / np.linalg.norm(values, axis=1, keepdims=True)))
    return NewImage(1, f"added/{seed}.jpg", rng.bytes(32), 1, 1, described)


def measured(regions: int, code_bytes: int, folder: str | None, repeats: int) -> dict[str, Any]:
    """Write a gallery, open it as it grew and compacted, and add to it."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "large.claid"
        write_gallery(path, regions, code_bytes)
        found: dict[str, Any] = {"regions": regions, "images": regions // REGIONS_AN_IMAGE, "bytes": code_bytes}
        found |= {"file_mb": path.stat().st_size / 2**20, **openings(path, regions, repeats), **keeping_in_step(path)}
        with Gallery.open(path, "rw") as gallery:
            gallery.compact()
        found["compacted"] = openings(path, regions, repeats)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, nargs="+", default=[3_000_000, 10_000_000])
    parser.add_argument("--bytes", type=int, default=16)
    parser.add_argument("--folder", help="where the made-up gallery is written; needs about 100 bytes a region, twice")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--opened", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.opened:
        print(json.dumps(opened(options.opened)))
        return
    found = {}
    for regions in options.regions:
        found[f"{regions}x{options.bytes}"] = measured(regions, options.bytes, options.folder, options.repeats)
    results_file.write(results_file.FOLDER / "open.json", found)
    if options.json:
        print(json.dumps(found))
        return
    for name, part in found.items():
        print(name)
        for key, value in part.items():
            print(f"  {key:26} {value:.4g}" if isinstance(value, float) else f"  {key:26} {value}")


if __name__ == "__main__":
    main()
