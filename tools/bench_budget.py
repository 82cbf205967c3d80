"""The budget that enrolment tells, beside what it then takes, and the stop on a disk that runs full.

    python tools/bench_budget.py [--images 1500] [--disk 90]

Made-up descriptions of the usual size (50 regions of 2,192 dimensions) go through the real feed, batches and change of
code space; the gallery's files are watched meanwhile. With ``--disk MB``, where this user may mount, the same is done
on a memory disk of that size with the refusal switched off, to see the stop.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import results_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "gallery"))

import made_up
from made_up import MadeUpPipeline, MadeUpSpace, described, write_picture

from edge_claid.errors import StorageError
from edge_claid.frames import open_source
from edge_claid.gallery.enrolment import enroll as enrolment
from edge_claid.gallery.enrolment.budget import Estimate
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify
from edge_claid.records import Described, Frame

made_up.DIM = 2192


class UsualSize(MadeUpPipeline):
    """Describes as much as the default pipeline does, without its networks."""

    descriptor_dim = 2192

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        for frame in frames:
            yield described(int(frame.pixels.astype(np.int64).sum()), count=50, size=frame.size)


class Watched:
    """The largest that a gallery and the files beside it were."""

    def __init__(self, path: Path):
        self._path, self._ended, self.peak = path, threading.Event(), 0

    def __enter__(self) -> Watched:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            files = [f"{self._path}{suffix}" for suffix in ("", "-wal", "-shm")]
            self.peak = max(self.peak, sum(os.path.getsize(file) for file in files if os.path.exists(file)))


def enrolled(photos: Path, path: Path) -> dict[str, Any]:
    """Enrol into a new gallery; what was told, and what it took."""
    told: list[Estimate] = []
    options = enrolment.EnrollOptions(planned=told.append, train=lambda gallery, pipeline: MadeUpSpace(16))
    stopped = ""
    with Watched(path) as watched, Gallery.open(path, "create", read_space=MadeUpSpace.from_bytes) as gallery:
        try:
            enrolment.enroll(gallery, [open_source(photos)], UsualSize(), options)
        except StorageError as error:
            stopped = str(error).removeprefix(f"gallery {path}: ")
        images, problems = len(gallery), len(list(verify(gallery)))
    return {
        "images": images,
        "problems": problems,
        "told_growth_mb": told[0].growth / 1e6,
        "told_peak_mb": told[0].peak / 1e6,
        "growth_mb": os.path.getsize(path) / 1e6,
        "peak_mb": watched.peak / 1e6,
        "stopped": stopped,
    }


def on_a_small_disk(photos: Path, folder: Path, megabytes: int) -> dict[str, Any]:
    """As ``enrolled``, on a memory disk, without the refusal at the start."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)], check=True)
    try:
        enrolment.require_room = lambda *_: None  # type: ignore[assignment]
        return enrolled(photos, disk / "g.claid") | {"disk_mb": megabytes}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--disk", type=int, default=0, help="megabytes of a memory disk; 0 leaves that out")
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "enrolment_budget.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(arguments.images):
            write_picture(folder / "photos" / f"{number:06}.png", number)
        parts = {"told and taken": enrolled(folder / "photos", folder / "g.claid")}
        if arguments.disk:
            parts["disk that runs full"] = on_a_small_disk(folder / "photos", folder, arguments.disk)
    results_file.write(arguments.out, parts)
    for what, part in parts.items():
        print(what, part)


if __name__ == "__main__":
    main()
