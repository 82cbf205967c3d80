"""The decomposition beside the authors' recorded times, normalised cut and a per-token loop, in one run.

python tools/bench_decomposition.py [--golden FILE.npz] [--repeats R] [--no-peers] [--no-growth] [--results DIR]
       [--json]

Golden tokens by default from $EDGE_CLAID_TEST_DATA/golden or ../shared/golden; any file of that format works. One
thread unless said. Runs are taken in turn, so that a drift of the machine meets all alike, ours after an untimed call;
figures are medians over repeats, then over images, *_min the least of the repeats. Normalised cut: at most three cuts,
by the dense solver as published, and by an iterative one of ours. Writes benchmarks/results/decomposition.json and,
where matplotlib is installed, decomposition_growth.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

for library in ("OPENBLAS", "MKL", "OMP"):  # the peers on one thread too; read when numpy is loaded
    os.environ[f"{library}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from clustered_tokens import clustered_tokens  # noqa: E402
from decomposition_floors import machine_rates, step_table  # noqa: E402
from decomposition_growth import growth, plotted  # noqa: E402
from normalised_cut import normalised_cuts  # noqa: E402
from per_token_loop import regions_by_loop  # noqa: E402

from edge_claid.config import RegionSettings  # noqa: E402
from edge_claid.ops.cpu import decomposition_op as cpu  # noqa: E402
from edge_claid.ops.reference import decomposition as reference  # noqa: E402
from edge_claid.ops.reference.region_tree import Tree  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
PAPER_SIZE = (45, 60), 768  # ViT-B/8, shorter side 360
CUTS = 3
SLOW = {"per_token_loop", "normalised_cut", "normalised_cut_iterative"}


@dataclass(frozen=True)
class Picture:
    """Tokens of one golden image, or made-up ones (entry and arrays empty)."""

    features: np.ndarray
    grid: tuple[int, int]
    entry: dict
    arrays: dict

    @property
    def size(self) -> str:
        return f"{self.grid[0]}x{self.grid[1]}x{self.features.shape[1]}"


def golden_pictures(path: Path) -> list[Picture]:
    """The images of a golden file (shared/golden/README.md gives its format)."""
    stored = np.load(path)
    pictures = []
    for entry in json.loads(bytes(stored["index_json"]).decode()):
        names = ("region_len", "region_tokens", "cut_minmax_token")
        arrays = {name: stored[f"{entry['key']}/{name}"] for name in names}
        features = stored[f"{entry['key']}/tokens_f16"].astype(np.float32)
        pictures.append(Picture(features, (int(entry["grid"][0]), int(entry["grid"][1])), entry, arrays))
    return pictures


def masks_of(tree: Tree, tau2: float = 0.1) -> np.ndarray:
    """(regions, N) bool, nodes below the root that are no dummies."""
    masks = np.unpackbits(tree.masks, axis=1, count=int(tree.areas[0]), bitorder="little").astype(bool)
    return masks[1:][tree.energy()[1:] > tau2]


def parity(pictures: list[Picture]) -> dict[str, int]:
    """How many images give the released program's region list, token for token and in order."""
    identical = 0
    for picture in pictures:
        seeds = picture.arrays["cut_minmax_token"]
        seed = picture.entry["seed"]
        tree = cpu.decompose_float(picture.features, picture.grid, released=True, shuffle_seed=seed, seeds=seeds)
        ends = np.cumsum(picture.arrays["region_len"])[:-1]
        wanted = np.split(picture.arrays["region_tokens"], ends) if len(picture.arrays["region_len"]) else []
        found = [np.flatnonzero(mask) for mask in masks_of(tree)]
        identical += len(found) == len(wanted) and all(map(np.array_equal, found, wanted))
    return {"identical": identical, "of": len(pictures)}


def same(one: Tree, other: Tree) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Tree))


def deterministic(pictures: list[Picture]) -> bool:
    """Every kernel of this machine, one thread and three, against the reference."""
    trees = [reference.decompose(picture.features, picture.grid) for picture in pictures]
    images = [(picture.features, picture.grid) for picture in pictures]
    return all(
        all(map(same, trees, cpu.decompose_batch(images, threads=threads, isa=isa)))
        for isa in cpu.supported_isas()
        for threads in (1, 3)
    )


def mean_best_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Each region's best IoU among the other's, averaged both ways; masks (R, N) bool."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    shared = one.astype(np.float32) @ other.T.astype(np.float32)
    iou = shared / (one.sum(axis=1)[:, None] + other.sum(axis=1) - shared)
    return float((iou.max(axis=0).mean() + iou.max(axis=1).mean()) / 2)


def quality(pictures: list[Picture]) -> dict[str, float]:
    """Integers against floats in the same order of visits; beside it, the authors' rules seed against seed."""
    arithmetic, seeds = [], []
    for picture in pictures:
        ours = masks_of(cpu.decompose(picture.features, picture.grid))
        arithmetic.append(mean_best_iou(ours, masks_of(cpu.decompose_float(picture.features, picture.grid))))
        sets = [
            masks_of(cpu.decompose_float(picture.features, picture.grid, released=True, shuffle_seed=seed))
            for seed in range(4)
        ]
        seeds += [mean_best_iou(sets[i], sets[j]) for i in range(4) for j in range(i)]
    return {
        "mean_best_iou_integer_to_float": float(np.mean(arithmetic)),
        "mean_best_iou_seed_to_seed": float(np.mean(seeds)),
    }


def in_turn(runs: dict[str, tuple[Callable[[], Any], int]], warm: bool = True) -> dict[str, list[float]]:
    """Milliseconds of each run, taken in turn as often as it says, each time after an untimed call where warm."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(max(repeats for _, repeats in runs.values())):
        for name, (run, repeats) in runs.items():
            if turn >= repeats:
                continue
            if warm and name not in SLOW:
                run()
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def timed_picture(picture: Picture, repeats: int, peers: bool) -> dict[str, float]:
    """Medians in milliseconds and ratios for one picture."""
    x, grid = picture.features, picture.grid
    product = RegionSettings().decomposition
    center = x.mean(axis=0)
    runs: dict[str, tuple[Callable[[], Any], int]] = {
        isa: (partial(cpu.decompose, x, grid, isa=isa), repeats) for isa in cpu.supported_isas() if isa != "portable"
    }
    runs["ours"] = (partial(cpu.decompose, x, grid), repeats)
    runs["product_settings"] = (partial(cpu.decompose, x, grid, center=center, **product), repeats)
    if peers:
        runs["per_token_loop"] = (partial(regions_by_loop, x, grid), 3)
        runs["normalised_cut"] = (partial(normalised_cuts, x, grid, CUTS, dense=True), 1)
        runs["normalised_cut_iterative"] = (partial(normalised_cuts, x, grid, CUTS), 3)
    times = in_turn(runs)
    row = {name: statistics.median(values) for name, values in times.items()}
    row["ours_min"] = min(times["ours"])
    for peer in SLOW & set(row):
        row[f"ratio_to_{peer}"] = row[peer] / row["ours"]
    if "ref_seconds_median" in picture.entry:
        row["authors_recorded"] = picture.entry["ref_seconds_median"] * 1e3
        row["ratio_to_authors"] = row["authors_recorded"] / row["ours"]
    return row


def timed_size(pictures: list[Picture], repeats: int, peers: bool) -> dict[str, float]:
    """Medians over the pictures of one size."""
    rows = [timed_picture(picture, repeats, peers) for picture in pictures]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def batch_speedup(pictures: list[Picture], threads: int) -> float:
    """Pictures a second over threads, against one thread: least times of a batch of 128."""
    images = [(picture.features, picture.grid) for picture in (pictures * 128)[:128]]
    times = in_turn({str(n): (partial(cpu.decompose_batch, images, threads=n), 15) for n in (1, threads)}, warm=False)
    return min(times["1"]) / min(times[str(threads)])


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns what is written and printed."""
    pictures = golden_pictures(options.golden)
    grid, width = PAPER_SIZE
    synthetic = [Picture(clustered_tokens(grid, width, seed), grid, {}, {}) for seed in range(2)]
    by_size: dict[str, list[Picture]] = {}
    for picture in pictures:
        by_size.setdefault(picture.size, []).append(picture)
    sizes = {size: timed_size(some, options.repeats, options.peers) for size, some in by_size.items()}
    sizes[synthetic[0].size] = timed_size(synthetic, max(3, options.repeats // 3), options.peers)
    names = sorted({name for row in sizes.values() for name in row} - {"ours"})
    threads = os.cpu_count() or 1
    rates = machine_rates()
    samples = {size: some[0] for size, some in by_size.items()} | {synthetic[0].size: synthetic[0]}
    return {
        "machine": f"{platform.machine()}, {threads} cores, kernels {', '.join(cpu.supported_isas())}",
        "parity": parity(pictures),
        "deterministic": deterministic(pictures),
        "ms": {size: row["ours"] for size, row in sizes.items()},
        **{name: {size: row[name] for size, row in sizes.items() if name in row} for name in names},
        "quality": quality(pictures),
        "batch": {"threads": threads, "speedup": batch_speedup(pictures, threads)},
        "steps_ms": {size: step_table(some.features, some.grid, rates) for size, some in samples.items()},
        "rates": rates,
        "growth": growth() if options.growth else [],
    }


def main() -> None:
    default = Path(os.environ.get("EDGE_CLAID_TEST_DATA", REPOSITORY.parent / "shared")) / "golden/claid_golden.npz"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, default=default)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave out the slow ones")
    parser.add_argument("--no-growth", dest="growth", action="store_false")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that is written to")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measured(options)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "decomposition.json").write_text(json.dumps(result, indent=1) + "\n")
    plotted(result["growth"], options.results / "decomposition_growth.png")
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:28} {json.dumps(value)}")


if __name__ == "__main__":
    main()
