"""Disk and memory that an enrolment will need, told before the work, and watched while it goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from edge_claid.errors import StorageError
from edge_claid.gallery.clips import frames_of
from edge_claid.gallery.enrolment.feed import PIXEL_BYTES, READ_BYTES
from edge_claid.gallery.enrolment.survey import FileSource
from edge_claid.gallery.roots import Root
from edge_claid.gallery.storage.identity import read_meta
from edge_claid.gallery.storage.medium import free_bytes, largest_file
from edge_claid.gallery.storage.rows import BOX_BYTES, TREE_BYTES
from edge_claid.gallery.store import Gallery

# Of a gallery with too few pictures to measure: regions of a picture and packed bytes of a region's mask, both above
# what photographs gave (benchmarks/results/enroll.json, and `gallery info` of the sample pictures).
REGIONS, MASK_BYTES, CODE_BYTES = 50, 24, 16
DESCRIPTOR_DIM = 2192  # of the default network, for a rehearsal without one
_MEASURED_FROM = 20  # pictures
# Rows, indexes and half-filled pages of a picture, beside what its regions take.
_ROW_BYTES = 1_500
# A code space: projection 2192 x 192, rotation 192 x 192 and codewords 256 x 192, float32, and a little; and its copy.
_SPACE_BYTES = 2 * 2_100_000
# Descriptors that wait lie in the file, and once more in the log when the code space takes their place.
_WAITING_TWICE = 2.1
# Left free for the write-ahead log and whatever else writes there: below it the run ends, with what it has stored.
RESERVE_BYTES = 64_000_000


@dataclass(frozen=True)
class Estimate:
    """What lies ahead. files: of all sources; new: pictures and key frames that are not in the gallery, about.

    outcomes: files and key frames that will be told of, at most.
    regions_per_image; region_bytes: in the gallery for good; image_bytes: the same for a whole picture.
    growth: bytes for good. peak: bytes on the way, while descriptors wait for their code space.
    free: bytes on the gallery's disk, None where unknown. memory: bytes of pictures held at once at most.
    search_memory: bytes a search will hold of the whole gallery.
    """

    files: int
    new: int
    outcomes: int
    regions_per_image: float
    region_bytes: float
    image_bytes: float
    growth: int
    peak: int
    free: int | None
    memory: int
    search_memory: int

    def as_json(self) -> dict[str, Any]:
        return {"estimate": asdict(self)}

    def lines(self) -> list[str]:
        """In words."""
        each = f"{self.image_bytes / 1e3:.1f} kB a picture, {self.region_bytes:.0f} bytes a region"
        free = "" if self.free is None else f"; {_amount(self.free)} are free"
        return [
            f"{self.files:,} files, about {self.new:,} pictures to describe",
            f"the gallery grows by about {_amount(self.growth)} ({each}), {_amount(self.peak)} on the way{free}",
            f"memory: up to {_amount(self.memory)} of pictures beside the networks; "
            f"a search will hold {_amount(self.search_memory)}",
        ]


class Training(Protocol):
    """What the estimate has to know of EnrollOptions, whose docstring says what these are."""

    @property
    def keep_descriptors(self) -> bool | None: ...

    @property
    def train_least(self) -> int: ...

    @property
    def train_early(self) -> int: ...


@dataclass(frozen=True)
class _Rates:
    regions: float
    region_bytes: float
    code_bytes: int
    stored_regions: int


def estimate(
    gallery: Gallery | None,
    sources: Sequence[tuple[FileSource, Root | None]],
    descriptor_dim: int,
    options: Training,
    path: str | None,
) -> Estimate:
    """Walk the sources by name and stat, and reckon.

    options: EnrollOptions. path: of the gallery, None where it is not known which disk that will be.
    """
    files = new = frames = 0
    for source, root in sources:
        listed, pictures, ahead = _counted(gallery, source, root)
        files, new, frames = files + listed, new + pictures + ahead, frames + ahead
    rates = _rates(gallery)
    info = gallery.info() if gallery is not None else None
    described = 2 * descriptor_dim
    keeping = options.keep_descriptors
    if keeping is None:
        keeping = info is not None and info.keep_descriptors
    region_bytes = rates.region_bytes + rates.code_bytes + (described if keeping else 0)
    regions = new * rates.regions
    uncoded = info is None or info.code_space is None
    trained = uncoded and new > 0 and rates.stored_regions + regions >= options.train_least
    waiting = min(regions, options.train_early) * described if uncoded and not keeping else 0.0
    staying = _SPACE_BYTES if trained else waiting
    growth = int(new * _ROW_BYTES + regions * region_bytes + staying)
    return Estimate(
        files=files,
        new=new,
        outcomes=files + frames,
        regions_per_image=rates.regions,
        region_bytes=region_bytes,
        image_bytes=rates.regions * region_bytes + _ROW_BYTES,
        growth=growth,
        peak=int(growth + _WAITING_TWICE * waiting) if trained else growth,
        free=free_bytes(path) if path is not None else None,
        memory=READ_BYTES + PIXEL_BYTES,
        search_memory=int((rates.stored_regions + regions) * (rates.code_bytes + BOX_BYTES + 4)),
    )


def require_room(wanted: Estimate, path: str, reserve: int = RESERVE_BYTES) -> None:
    """Raises StorageError where the disk, the file system or the memory cannot hold what lies ahead."""
    if wanted.new == 0:
        return
    if wanted.free is not None and wanted.peak + reserve > wanted.free:
        raise StorageError(
            f"gallery {path}: about {_amount(wanted.peak)} are needed for {wanted.new:,} pictures beside "
            f"{_amount(reserve)} kept free, but its disk has only {_amount(wanted.free)}; free some, "
            "put the gallery elsewhere, or enrol fewer folders"
        )
    largest = largest_file(path)
    size = os.path.getsize(path) if os.path.exists(path) else 0
    if largest is not None and size + wanted.peak > largest:
        raise StorageError(
            f"gallery {path}: it would grow to {_amount(size + wanted.peak)}, but its file system holds "
            f"files of at most {_amount(largest)}; put it on ext4 or exFAT"
        )
    memory = available_memory()
    if memory is not None and wanted.memory > memory:
        raise StorageError(
            f"only {_amount(memory)} of memory are free, pictures alone may take {_amount(wanted.memory)}; "
            "end other programs and start again"
        )


def require_reserve(path: str, done: int, reserve: int = RESERVE_BYTES) -> None:
    """Raises StorageError, to be called between batches, where the disk is nearly full. done: files told so far."""
    free = free_bytes(path)
    if free is not None and free < reserve:
        raise StorageError(
            f"gallery {path}: only {_amount(free)} are left on its disk; stopped after {done:,} files, all "
            "of them stored and the gallery sound. Free some space and run the same command again: it goes on from here"
        )


def available_memory() -> int | None:
    """Bytes that may still be taken without swapping, within a control group's limit; None where unknown."""
    amounts = []
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        amounts += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        group = "/sys/fs/cgroup/memory."
        with open(group + "max", encoding="ascii") as most, open(group + "current", encoding="ascii") as now:
            left = int(most.read()) - int(now.read())
        with open(group + "stat", encoding="ascii") as file:
            # Cached files are given back when memory is asked for.
            left += sum(int(line.split()[1]) for line in file if line.startswith(("inactive_file ", "active_file ")))
        amounts.append(left)
    return max(0, min(amounts)) if amounts else None


def _counted(gallery: Gallery | None, source: FileSource, root: Root | None) -> tuple[int, int, int]:
    """(files, pictures that the gallery lacks, key frames of videos that it lacks)."""
    files = pictures = frames = 0
    for file in source.files():
        if file.folder:
            continue
        files += 1
        stored = gallery is not None and root is not None
        if file.problem:
            continue
        if file.picture_by_name:
            pictures += not (stored and gallery.image_by_path(root.id, file.relative))  # type: ignore[union-attr]
        elif file.video_by_name and source.video_every is not None:
            known = stored and frames_of(gallery, root.id, file.relative)  # type: ignore[arg-type,union-attr]
            frames += 0 if known else source.expected_frames(file)
    return files, pictures, frames


def _rates(gallery: Gallery | None) -> _Rates:
    fixed = BOX_BYTES + TREE_BYTES
    if gallery is None:
        return _Rates(REGIONS, fixed + MASK_BYTES, CODE_BYTES, 0)
    info = gallery.info()
    code_bytes = info.code_bytes or CODE_BYTES
    if info.images < _MEASURED_FROM:
        return _Rates(REGIONS, fixed + MASK_BYTES, code_bytes, info.regions)
    sample = (
        "SELECT sum(length(packed)), sum(regions) FROM (SELECT m.packed, i.regions FROM masks m"
        " JOIN images i ON i.id = m.image ORDER BY m.image DESC LIMIT 500)"
    )
    with gallery.reading() as connection:
        packed, regions = connection.execute(sample).fetchone()
    masks = packed / regions if regions else MASK_BYTES
    return _Rates(info.regions / info.images, fixed + masks, code_bytes, info.regions)


def stored_dim(gallery: Gallery | None) -> int:
    """Length of a descriptor of this gallery's pipeline; of the default one where there is none yet."""
    if gallery is None:
        return DESCRIPTOR_DIM
    with gallery.reading() as connection:
        return int(read_meta(connection).get("descriptor_dim", DESCRIPTOR_DIM))


def _amount(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
