"""What the CUDA kernels should take on boards that nobody here has: a plan on paper, from counts and data sheets.

    python tools/gpu_plan.py TOKENS.npz [--out benchmarks/results/gpu_plan.json]

TOKENS.npz as tools/gpu_check_data.py writes it. The counts (products, moves of the cuts, rows they read) are of those
pictures; the boards' multiprocessors, clocks and bandwidths are the makers' figures; cycles a step are estimates, named
below. Nothing of this is a measurement: tools/gpu_check.sh measures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from bench_cuda import read_tokens
from bench_cuda_trees import SETTINGS
from results_file import FOLDER, environment

from edge_claid.ops.cpu import _decomposition
from edge_claid.ops.cpu.decomposition_op import arguments_of
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings

TILE, THREADS = 128, 256
PRODUCTS_A_CYCLE = 256  # int8, of a multiprocessor: 64 lanes of dp4a
GRAM_EFFICIENCY = 0.5  # loads from shared memory take the other half
CYCLES_A_MOVE = 900  # a Gram row from the L2 cache (about 300), two reductions over the block, one barrier
CYCLES_A_ROW = 80  # summing Gram rows at the start of a cut, eight loads under way
BLOCKS_A_PROCESSOR = 4  # of 64 registers a thread
SCAN_SHARE = 0.6  # of the memory's bandwidth
ESTIMATES = "estimates from the counts and the makers' data sheets; none of it ran on a GPU"


@dataclass(frozen=True)
class Board:
    """name; multiprocessors; GPU clock in GHz; memory bandwidth in GB/s: of the maker's data sheet."""

    name: str
    processors: int
    clock: float
    bandwidth: float


BOARDS = (
    Board("Jetson Orin Nano 8 GB", 8, 0.625, 68),
    Board("Jetson Orin NX 16 GB", 8, 0.918, 102),
    Board("Jetson AGX Orin 64 GB", 16, 1.3, 205),
    Board("Jetson Thor T5000", 20, 1.57, 273),
    Board("H200", 132, 1.98, 4300),
)


def counts_of(path: Path) -> dict[str, float]:
    """Means over the pictures: tokens, products of the Gram matrix, moves, rows summed, bytes of a workspace."""
    rows = []
    for grid, images in read_tokens(path).items():
        for features in images:
            arguments = arguments_of(features, None, DecompositionSettings(**SETTINGS))
            (run,) = _decomposition.timed(np.ascontiguousarray(features), *grid, arguments, "auto", 1)
            padded = -(-len(features) // TILE) * TILE
            tiles = padded // TILE
            products = tiles * (tiles + 1) // 2 * TILE * TILE * features.shape[1]
            rows.append((len(features), products, run["moves"], run["start_rows"], padded * padded * 2))
    names = ("tokens", "products", "moves", "start_rows", "gram_bytes")
    return {"pictures": len(rows)} | dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def planned(board: Board, counts: dict[str, float]) -> dict[str, float]:
    """Expected times of one picture and rates of many, on one board."""
    cycles = board.clock * 1e9
    gram = counts["products"] / (PRODUCTS_A_CYCLE * GRAM_EFFICIENCY * board.processors * cycles)
    columns = counts["tokens"] / THREADS  # a thread's share of a row
    tree = (counts["moves"] * CYCLES_A_MOVE + counts["start_rows"] * CYCLES_A_ROW * columns) / cycles
    together = board.processors * BLOCKS_A_PROCESSOR
    return {
        "one_picture_ms": (gram + tree) * 1e3,
        "of_it_gram_ms": gram * 1e3,
        "pictures_per_second_in_batches": 1 / (gram + tree / together),
        "codes_of_8_bytes_per_second": SCAN_SHARE * board.bandwidth * 1e9 / 8,
        "ten_million_regions_of_16_bytes_ms": 1e7 * 16 / (SCAN_SHARE * board.bandwidth * 1e9) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / "gpu_plan.json")
    arguments = parser.parse_args()
    counts = counts_of(arguments.tokens)
    boards = [asdict(board) | planned(board, counts) for board in BOARDS]
    plan = {"boards are": ESTIMATES, "counts": counts, "boards": boards, **environment()}
    arguments.out.write_text(json.dumps(plan, indent=1) + "\n")
    print(json.dumps(counts))
    for row in boards:
        print(" | ".join(str(value) if isinstance(value, str) else f"{value:.3g}" for value in row.values()))


if __name__ == "__main__":
    main()
