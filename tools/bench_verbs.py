"""How long the verbs take that go through a whole gallery: copy, verify, repair, merge, export; and those that do not.

    python tools/bench_verbs.py [--images 20000 100000] [--folder DIR]

On the made-up galleries of bench_open.py (30 regions an image, codes of 16 bytes, no float descriptors). ``merge`` adds
a second gallery of a tenth as many other images with the same code space; ``repair`` is of a file with one page in a
thousand damaged. ``list_one`` and ``remove_one`` are by path. Figures go to benchmarks/results/verbs.json.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import results_file
from bench_open import REGIONS_AN_IMAGE, write_gallery

from edge_claid.gallery.selection import Selection
from edge_claid.gallery.storage.pages import Pages
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.backup import copy_to
from edge_claid.gallery.upkeep.export import gallery_records, write_lines
from edge_claid.gallery.upkeep.merge import merge
from edge_claid.gallery.upkeep.repair import repair
from edge_claid.gallery.upkeep.verify import verify


def timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def other_images(path: Path, like: Path, images: int) -> None:
    """A gallery of other contents at other paths, in the code space of another."""
    write_gallery(path, images * REGIONS_AN_IMAGE, 16)
    with Gallery.open(path, "rw") as gallery, gallery.writing() as connection:
        connection.execute(
            "UPDATE images SET hash = CAST(hash || x'01' AS BLOB), path = CAST(path || '.other' AS BLOB)"
        )
        connection.execute("UPDATE roots SET location = ?", (os.fsencode(f"{like}.elsewhere"),))


def damage(path: Path, one_in: int) -> int:
    """Overwrite pages at random; how many."""
    rng = random.Random(0)
    with Pages(str(path)) as pages:
        size, count = pages.size, pages.count
    hit = rng.sample(range(300, count), max(1, count // one_in))
    with open(path, "r+b") as file:
        for page in hit:
            file.seek(page * size)
            file.write(rng.randbytes(size))
    return len(hit)


def measured(folder: Path, images: int) -> dict[str, Any]:
    path, copy, other = folder / "g.claid", folder / "copy.claid", folder / "other.claid"
    write_gallery(path, images * REGIONS_AN_IMAGE, 16)
    other_images(other, path, images // 10)
    found: dict[str, Any] = {"images": images, "file_mb": path.stat().st_size / 1e6}
    with Gallery.open(path, "rw") as gallery, Gallery.open(other) as second:
        found["copy_seconds"] = timed(lambda: copy_to(gallery, str(copy)))
        found["verify_seconds"] = timed(lambda: found.update(problems=len(list(verify(gallery)))))
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            found["export_seconds"] = timed(lambda: write_lines(gallery_records(gallery, gallery.images()), nowhere))
        name = next(gallery.images()).path
        found["list_one_ms"] = 1e3 * timed(lambda: list(Selection([name]).images(gallery)))
        found["remove_one_ms"] = 1e3 * timed(
            lambda: gallery.remove(row.id for row in Selection([name]).images(gallery))
        )
        found["merge_seconds"] = timed(lambda: merge(gallery, [second]))
        found["merge_again_seconds"] = timed(lambda: merge(gallery, [second]))
    found["pages_damaged"] = damage(copy, 1000)
    found["repair_seconds"] = timed(lambda: found.update(repaired=repair(str(copy))))
    found["kept_after_repair"] = found.pop("repaired").images
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    rows = []
    for images in arguments.images:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            rows.append(measured(Path(folder), images))
            print(rows[-1], flush=True)
    results_file.write(results_file.FOLDER / "verbs.json", {"verbs": {"galleries": rows}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
