"""The CUDA kernels on the GPU of this machine: the same answers as the CPU, and how fast, beside what limits them.

    python tools/bench_cuda.py TOKENS.npz [--rows 100000000] [--out benchmarks/results/cuda.json] [--quick]

TOKENS.npz holds arrays of tokens (N, D), float16 or float32, one a picture, by any name ending in "_RxC" where R x C is
the grid. Every figure stands beside its limit or a peer of the same run: the decomposition beside the CPU's on one
thread, the scan beside the memory's bandwidth (a copy on the device) and a plain gather by torch. Frames to hits, with
the networks run by torch, are measured where the folder of TOKENS.npz holds what tools/gpu_check_data.py makes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_cuda_trees import SETTINGS, asked_grid, bench_decomposition, bench_growth, bench_identity, milliseconds
from bench_frames import frame_to_hits
from results_file import FOLDER, environment
from torch_gather import torch_gather_ms

from edge_claid.ops.cuda.decomposition_op import CudaDecomposition
from edge_claid.ops.cuda.device import DeviceArray
from edge_claid.ops.cuda.encode_op import CudaCoder
from edge_claid.ops.cuda.pool_op import MapPooling, RegionsOfMaps
from edge_claid.ops.cuda.scan_op import CodeScan

REGIONS_AN_IMAGE = 30


def read_tokens(path: Path) -> dict[tuple[int, int], list[np.ndarray]]:
    """Tokens by grid."""
    by_grid: dict[tuple[int, int], list[np.ndarray]] = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            found = re.search(r"_(\d+)x(\d+)$", name)
            if found:
                by_grid.setdefault((int(found[1]), int(found[2])), []).append(arrays[name].astype(np.float32))
    return by_grid


def copy_bandwidth(device: Any, size: int) -> float | None:
    """Bytes read and written a second by a copy on the device; None on what is no GPU."""
    if not hasattr(device, "copy"):
        return None
    with (
        contextlib.closing(device.empty((size,), np.uint8)) as a,
        contextlib.closing(device.empty((size,), np.uint8)) as b,
    ):
        return 2 * size / milliseconds(device, lambda: device.copy(a, b), 10)["median_ms"] * 1000


def bench_scan(device: Any, rows: int, subspaces: int, bandwidth: float | None, quick: bool) -> list[dict[str, Any]]:
    """Search of made-up codes, one query and sixteen; the codes' bytes a second beside the memory's."""
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (min(rows, 1 << 20), subspaces), dtype=np.uint8)
    tables = rng.gamma(4.0, 0.1, (16, subspaces, 256)).astype(np.float32)
    results = []
    with CodeScan(device, subspaces) as scan:
        for start in range(0, rows, len(block)):
            codes = np.roll(block, start // len(block), axis=1)[: rows - start]
            scan.append(codes, (np.arange(start, start + len(codes)) // REGIONS_AN_IMAGE).astype(np.int32))
        for queries in (1, 16):
            asked = tables[:queries]
            figures = milliseconds(device, lambda asked=asked: scan.search(asked, 100), 3 if quick else 30)
            per_query = figures["median_ms"] / queries
            rate = rows * subspaces / figures["median_ms"] * 1000
            results.append(
                {
                    "rows": rows,
                    "bytes": subspaces,
                    "queries": queries,
                    **figures,
                    "ms_per_query": per_query,
                    "code_bytes_per_second": rate,
                    "share_of_copy_bandwidth": rate / bandwidth if bandwidth else None,
                    "lookups_per_second": rate * queries,
                }
            )
        results[0]["torch_gather_ms"] = torch_gather_ms(
            block, tables[0], 100, lambda work: milliseconds(device, work, 5)["median_ms"]
        )
        results[0]["torch_gather_rows"] = len(block)
    return results


def longest_scan(device: Any, bandwidth: Any, quick: bool) -> Any:
    """A billion rows, for which launches and copies from Python no longer count beside the memory read."""
    rows = 20_000 if quick else 10**9
    if device.free_bytes() < 30 * rows:
        return {"not run": f"{rows:,} rows need {30 * rows:,} bytes of the GPU's memory"}
    return bench_scan(device, rows, 8, bandwidth if isinstance(bandwidth, float) else None, quick)


def scan_is_exact(device: Any, rows: int) -> bool:
    """Whether images, distances and rows are the CPU's, with removed and filtered images."""
    from edge_claid.ops.cpu.scan_op import CodeScan as CpuScan

    rng = np.random.default_rng(1)
    equal = True
    for subspaces in (8, 16, 32):
        codes = rng.integers(0, 256, (rows, subspaces), dtype=np.uint8)
        images = (np.arange(rows) // REGIONS_AN_IMAGE).astype(np.int32)
        tables = rng.gamma(4.0, 0.1, (5, subspaces, 256)).astype(np.float32)
        allowed = rng.random(images[-1] + 1) < 0.5
        wanted = CpuScan(subspaces)
        with CodeScan(device, subspaces) as scan:
            for each in (wanted, scan):
                each.append(codes, images)
                each.remove(np.arange(0, 100, 3, dtype=np.int32))
            for mask in (None, allowed):
                for a, b in zip(wanted.search(tables, 100, mask), scan.search(tables, 100, mask), strict=True):
                    equal &= np.array_equal(a, b)
    return equal


def bench_path(device: Any, images: list[np.ndarray], grid: tuple[int, int], rows: int, quick: bool) -> dict[str, Any]:
    """One picture from tokens on the device to hits on the host, stage by stage: regions, pooling, coding, scan."""
    rng = np.random.default_rng(2)
    shapes = ((64, 3, 4), (32, 6, 8)) if quick else ((1280, 21, 28), (672, 42, 56), (240, 84, 112))
    width = sum(shape[0] for shape in shapes)
    mean = np.zeros(width, np.float32)
    matrix = rng.standard_normal((width, 256)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((256, 256)))[0].astype(np.float32)
    centroids = rng.standard_normal((16, 256, 16)).astype(np.float32) / 16
    repeats = 3 if quick else 100
    with contextlib.ExitStack() as stack:

        def kept(array: DeviceArray) -> DeviceArray:
            stack.callback(array.close)
            return array

        op = stack.enter_context(CudaDecomposition(device, 1, grid, images[0].shape[1]))
        coder = stack.enter_context(CudaCoder(device, mean, matrix, rotation, centroids))
        scan = stack.enter_context(CodeScan(device, 16))
        codes = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
        scan.append(codes, (np.arange(rows) // REGIONS_AN_IMAGE).astype(np.int32))
        tokens = kept(device.upload(images[0][None]))
        sizes = kept(device.upload(np.array([[640, 480]], np.int32)))
        described = kept(device.empty((40, width), np.float32))
        maps = [kept(device.upload(rng.gamma(1.0, 1.0, (1, *shape)).astype(np.float32))) for shape in shapes]
        corners = np.sort(rng.random((40, 2, 2)), axis=1) * [600, 440]
        corners[:, 1] += 40
        boxes = corners.reshape(40, 4).astype(np.float32)
        pooled_over = RegionsOfMaps(kept(device.upload(boxes)), kept(device.upload(np.zeros(40, np.int32))), sizes)
        pooling = stack.enter_context(MapPooling(device, 3.0, 1.0))
        projected = kept(device.empty((40, 256), np.float32))
        coded = kept(device.empty((40, 16), np.uint8))
        tables = kept(device.empty((16, 16, 256), np.float32))
        stages: dict[str, Callable[[], object]] = {
            "regions": lambda: op.run(tokens, **SETTINGS).regions(sizes, -1.0, 0.9).close(),
            "pool": lambda: pool_maps(pooling, maps, pooled_over, described),
            "project": lambda: coder.project(described, projected),
            "encode": lambda: coder.encode(projected, coded),
            "tables": lambda: coder.tables(projected.part(0, 16), tables),
            "scan": lambda: scan.search(device.download(tables), 10),
        }
        figures = {name: milliseconds(device, work, repeats) for name, work in stages.items()}
        whole = milliseconds(device, lambda: [work() for work in stages.values()], repeats)
    return {"rows": rows, "stages": figures, "tokens_to_hits": whole}


def pool_maps(pooling: MapPooling, maps: list[DeviceArray], regions: RegionsOfMaps, described: DeviceArray) -> None:
    """All maps of a picture into the columns of its regions' descriptors."""
    offset = 0
    for values in maps:
        pooling.pool(values, regions, described, offset=offset)
        offset += values.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--rows", type=int, default=100_000_000, help="of the largest scan")
    parser.add_argument("--out", type=Path, default=FOLDER / "cuda.json")
    parser.add_argument("--cache", type=Path, help="folder that keeps compiled kernels")
    parser.add_argument("--quick", action="store_true", help="few repeats and small sizes: does it run at all?")
    from edge_claid.ops.cuda.pycuda_device import PycudaDevice

    arguments = parser.parse_args()
    quick = arguments.quick
    with PycudaDevice(cache_dir=arguments.cache) as device:
        figures: dict[str, Any] = {"gpu": device.name}
        parts = parts_of(device, read_tokens(arguments.tokens), arguments.rows, quick)
        # What torch may spoil comes after all the rest.
        folder, rows = arguments.tokens.parent, 5_000 if quick else 10_000_000
        parts["frame_to_hits"] = lambda _: frame_to_hits(device, folder, rows, quick)
        parts["longest_scan"] = lambda known: longest_scan(device, known["copy_bytes_per_second"], quick)
        for name, work in parts.items():
            figures[name] = guarded(work, figures)
            # At once: what comes later may not end, or end this process.
            arguments.out.write_text(json.dumps(environment() | figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    if any(isinstance(found, dict) and "failed" in found for found in figures.values()):
        raise SystemExit(1)


def guarded(work: Callable[[dict[str, Any]], Any], figures: dict[str, Any]) -> Any:
    """A failure is told and costs no other figure."""
    try:
        return work(figures)
    except Exception as error:  # torch's and CUDA's errors have no class in common
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}


def parts_of(
    device: Any, tokens: dict[tuple[int, int], list[np.ndarray]], rows: int, quick: bool
) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """What measures each figure, in order, given those before it."""
    grid, sizes = asked_grid(tokens), [20_000] if quick else sorted({10**6, 10**7, rows})

    def scans(figures: dict[str, Any]) -> list[dict[str, Any]]:
        known = figures["copy_bytes_per_second"]
        bandwidth = known if isinstance(known, float) else None
        each = ((size, subspaces) for size in sizes for subspaces in (8, 16, 32))
        return [row for size, subspaces in each for row in bench_scan(device, size, subspaces, bandwidth, quick)]

    return {
        "copy_bytes_per_second": lambda _: copy_bandwidth(device, 1 << (20 if quick else 32)),
        "decomposition_identity": lambda _: bench_identity(device, tokens),
        "decomposition": lambda _: bench_decomposition(device, tokens[grid], grid, quick),
        "decomposition_by_size": lambda _: bench_growth(device, tokens[grid][0], grid, quick),
        "scan_is_exact": lambda _: scan_is_exact(device, 5_000 if quick else 1_000_000),
        "path": lambda _: bench_path(device, tokens[grid], grid, 5_000 if quick else 10_000_000, quick),
        "scan": scans,
    }


if __name__ == "__main__":
    main()
