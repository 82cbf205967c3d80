"""Fuzz the readers of foreign files: pictures, videos, galleries and the write-ahead logs beside them.

    python tools/fuzz_readers.py --pictures 5000 --clips 4000 --galleries 2000 --values 1000 --logs 500 [--out FILE]

A crash, a hang or an error not of ours is a finding.

Cases are numbered; ``--only pictures:1234`` runs one again, ``--save DIR`` keeps the files of findings. Each block of
cases runs in a process of its own, so that a crash in a decoder names its case. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import results_file
from fuzz_clips import sample_clips
from fuzz_samples import (
    GALLERY,
    made_up_image,
    mutated,
    sample_galleries,
    sample_logs,
    sample_pictures,
    sealed,
    with_odd_values,
)

from edge_claid.errors import BadImageError, EdgeClaidError
from edge_claid.frames.exif import read_exif
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.frames.header import sniff
from edge_claid.frames.key_frames import key_frames
from edge_claid.frames.reading import decode_picture
from edge_claid.frames.video import VideoFile
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify

SECONDS_A_CASE = 20
BLOCK = 250


def try_picture(content: bytes, folder: Path) -> str:
    """Read one picture; what came of it. Any exception that leaves here is a finding."""
    name = sniff(content)
    if name is not None:
        read_exif(content, name)
    try:
        frame = decode_picture(content, "case", ReadLimits(pixels=4_000_000))
    except BadImageError:
        return "refused"
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.ndim == 3
    assert frame.pixels.shape[2] == 3
    return "read"


def try_gallery(content: bytes, folder: Path) -> str:
    """Read, check and change one gallery; what came of it. Any exception that leaves here is a finding."""
    path = folder / "case.claid"
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{path}{suffix}")
    path.write_bytes(content)
    return _use_gallery(path)


def try_log(content: bytes, folder: Path) -> str:
    """A sound gallery with a fuzzed write-ahead log beside it, as a cut of power or somebody else may leave one."""
    path = folder / "case.claid"
    for suffix in ("-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{path}{suffix}")
    shutil.copy(folder / GALLERY, path)
    # With the checksums of what it was, a changed log is not read at all.
    Path(f"{path}-wal").write_bytes(sealed(content) if content[-1:] > b"\x60" else content)
    return _use_gallery(path)


def _use_gallery(path: Path) -> str:
    try:
        with Gallery.open(path, "r", wait_seconds=1) as gallery:
            problems = len(list(verify(gallery)))
            with contextlib.suppress(EdgeClaidError):
                for row in gallery.images():
                    gallery.regions(row.id)
            with contextlib.suppress(EdgeClaidError):
                gallery.load_index()
        with Gallery.open(path, "rw", wait_seconds=1) as gallery:
            gallery.add([made_up_image(1000)])
            gallery.remove([1])
            gallery.info()
            gallery.compact()
    except EdgeClaidError:
        return "refused"
    return "problems named" if problems else "sound"


def try_clip(content: bytes, folder: Path) -> str:
    """Read every frame of one video, then its key frames; what came of it. What leaves here is a finding."""
    path = folder / "case.mp4"
    path.write_bytes(content)
    count = 0
    try:
        with VideoFile(str(path), ReadLimits(pixels=4_000_000)) as video:
            for seconds, frame in video.timed():
                assert seconds >= 0
                assert frame.pixels.shape[2] == 3
                count += 1
    except BadImageError:
        pass
    with contextlib.suppress(BadImageError):
        assert sum(frame is not None for _, frame in key_frames(str(path), 0.1)) <= max(count, 1)
    return "read" if count else "refused"


TRIES: dict[str, Callable[[bytes, Path], str]] = {
    "pictures": try_picture,
    "clips": try_clip,
    "galleries": try_gallery,
    "values": try_gallery,
    "logs": try_log,
}
SAMPLES: dict[str, Callable[[Path], list[bytes]]] = {
    "pictures": lambda folder: sample_pictures(),
    "clips": lambda folder: sample_clips(),
    "galleries": sample_galleries,
    "values": lambda folder: sample_galleries(folder)[1:],
    "logs": sample_logs,
}


def run_cases(kind: str, first: int, count: int, save: Path | None = None) -> tuple[Counter[str], list[str]]:
    """Run numbered cases in this process: counts of what came of them, and a line per finding."""
    counts: Counter[str] = Counter()
    findings = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = SAMPLES[kind](folder)
        for case in range(first, first + count):
            rng = np.random.default_rng([case, len(kind)])
            odd = kind == "values"
            content = with_odd_values(samples[case % len(samples)], rng, folder) if odd else mutated(samples, rng)
            started = time.monotonic()
            try:
                with _deadline():
                    counts[TRIES[kind](content, folder)] += 1
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                seconds = time.monotonic() - started
                findings.append(f"{kind}:{case} {error!r} at {last.filename}:{last.lineno} after {seconds:.1f} s")
                if save:
                    (save / f"{kind}-{case}").write_bytes(content)
    return counts, findings


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"no answer in {SECONDS_A_CASE} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS_A_CASE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _run_block(kind: str, first: int, count: int, save: Path | None) -> tuple[Counter[str], list[str]]:
    """A block in a child, so that a crash ends only the block; then its cases one by one, to name the case."""
    command = [sys.executable, __file__, "--block", f"{kind}:{first}:{count}", *(["--save", str(save)] if save else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + SECONDS_A_CASE * count)
    except subprocess.TimeoutExpired:
        return Counter(hung=1), [
            f"{kind}:{first} hung in native code" if count == 1 else f"{kind}:{first}+{count} hung"
        ]
    if done.returncode < 0 and count > 1:
        parts = [_run_block(kind, first + i, 1, save) for i in range(count)]
        return sum((part[0] for part in parts), Counter()), [line for part in parts for line in part[1]]
    if done.returncode:
        return Counter(crashed=1), [f"{kind}:{first} crashed with {done.returncode}: {done.stderr[-500:]}"]
    counts, *findings = done.stdout.splitlines()
    return Counter({k: int(v) for k, _, v in (part.rpartition("=") for part in counts.split(";") if part)}), findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--galleries", type=int, default=300)
    parser.add_argument("--values", type=int, default=100, help="galleries with odd values on sound pages")
    parser.add_argument("--logs", type=int, default=100)
    parser.add_argument("--only", help="KIND:CASE")
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "fuzz.json")
    parser.add_argument("--save", type=Path, help="folder for the files of findings")
    parser.add_argument("--block", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
    if arguments.block or arguments.only:
        kind, first, count = (*(arguments.block or arguments.only).split(":"), "1")[:3]
        counts, findings = run_cases(kind, int(first), int(count), arguments.save)
        print(";".join(f"{name}={number}" for name, number in counts.items()), *findings, sep="\n")
        return 0 if arguments.block else bool(findings)
    found = []
    for kind, total in (
        ("pictures", arguments.pictures),
        ("clips", arguments.clips),
        ("galleries", arguments.galleries),
        ("values", arguments.values),
        ("logs", arguments.logs),
    ):
        counts, lines, began = Counter(), [], time.monotonic()
        for first in range(0, total, BLOCK):
            part, findings = _run_block(kind, first, min(BLOCK, total - first), arguments.save)
            counts += part
            lines += findings
        print(f"{total} {kind}:", ", ".join(f"{number} {name}" for name, number in counts.most_common()), flush=True)
        figures = {"cases": total, "outcomes": dict(counts), "findings": lines[:20], "found": len(lines)}
        if total:
            results_file.write(arguments.out, {kind: {**figures, "seconds": round(time.monotonic() - began, 1)}})
        found += lines
    print(*(found or ["no findings"]), sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
