"""Fuzz the readers of foreign files: pictures and galleries. A crash, a hang or an error not of ours is a finding.

    python tools/fuzz_readers.py --pictures 5000 --galleries 2000

Cases are numbered; ``--only pictures:1234`` runs one again, ``--save DIR`` keeps the files of findings. Each block of
cases runs in a process of its own, so that a crash in a decoder names its case. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from edge_claid.errors import BadImageError, EdgeClaidError
from edge_claid.frames.exif import read_exif
from edge_claid.frames.header import sniff
from edge_claid.frames.reading import ReadLimits, decode_picture
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.verify import verify
from edge_claid.records import Described, Descriptors, Regions

SECONDS_A_CASE = 20
BLOCK = 250


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
    return samples


def sample_galleries(folder: Path) -> list[bytes]:
    """An empty gallery, and one of some images."""
    contents = []
    for count in (0, 30):
        path = folder / f"sample{count}.claid"
        with Gallery.open(path, "create") as gallery:
            gallery.bind("aa", {"network": "made-up"}, 16)
            register_root(gallery, "/nowhere", "photos")
            gallery.add([_image(i) for i in range(count)])
        contents.append(path.read_bytes())
        path.unlink()
    return contents


def _image(seed: int) -> NewImage:
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


def try_picture(content: bytes, folder: Path) -> str:
    """Read one picture; what came of it. Any exception that leaves here is a finding."""
    name = {"GIF": "GIF", "JPEG": "JPEG", "PNG": "PNG", "WebP": "WebP", "TIFF": "TIFF"}.get(sniff(content) or "")
    if name:
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
    try:
        with Gallery.open(path, "r", wait_seconds=1) as gallery:
            problems = len(list(verify(gallery)))
            with contextlib.suppress(EdgeClaidError):
                for row in gallery.images():
                    gallery.regions(row.id)
            with contextlib.suppress(EdgeClaidError):
                gallery.load_index()
        with Gallery.open(path, "rw", wait_seconds=1) as gallery:
            gallery.add([_image(1000)])
            gallery.remove([1])
            gallery.info()
            gallery.compact()
    except EdgeClaidError:
        return "refused"
    return "problems named" if problems else "sound"


TRIES: dict[str, Callable[[bytes, Path], str]] = {"pictures": try_picture, "galleries": try_gallery}


def run_cases(kind: str, first: int, count: int, save: Path | None = None) -> tuple[Counter[str], list[str]]:
    """Run numbered cases in this process: counts of what came of them, and a line per finding."""
    counts: Counter[str] = Counter()
    findings = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = sample_pictures() if kind == "pictures" else sample_galleries(folder)
        for case in range(first, first + count):
            content = mutated(samples, np.random.default_rng([case, len(kind)]))
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
    parser.add_argument("--galleries", type=int, default=300)
    parser.add_argument("--only", help="KIND:CASE")
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
    for kind, total in (("pictures", arguments.pictures), ("galleries", arguments.galleries)):
        counts = Counter()
        for first in range(0, total, BLOCK):
            part, findings = _run_block(kind, first, min(BLOCK, total - first), arguments.save)
            counts += part
            found += findings
        print(f"{total} {kind}:", ", ".join(f"{number} {name}" for name, number in counts.most_common()), flush=True)
    print(*(found or ["no findings"]), sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
