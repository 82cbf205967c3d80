"""Exact search over codes beside faiss and nanopq, one thread, in one run.

python tools/bench_scan.py [--n REGIONS] [--bytes M] [--queries Q] [--isa avx512|avx2|neon|scalar] [--k K] [--json]

Thirty regions an image; ours gives the k nearest images, the peers the k nearest regions. Our answer is compared with
that of the float tables. Medians over --repeats interleaved runs; *_min are the least.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import faiss
import nanopq
import numpy as np

from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.faiss_io import faiss_from_codebook
from edge_claid.codes.pq import train_pq
from edge_claid.ops.cpu._scan import CodeScan
from edge_claid.ops.reference.scan import code_distances

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
REGIONS_AN_IMAGE = 30
SUBSPACE_WIDTH = 8
ENCODED = 1 << 17
CHUNK = 1 << 18


def made_up_gallery(n: int, subspaces: int, queries: int) -> tuple[CodeBook, np.ndarray, np.ndarray]:
    """A code book, codes (n, M) and query descriptors (Q, D) of clustered vectors.

    The first ENCODED codes are of real vectors; the rest repeat them with a quarter of the subspaces drawn anew.
    """
    rng = np.random.default_rng(0)
    width = subspaces * SUBSPACE_WIDTH
    centres = rng.normal(size=(1000, width))
    count = min(n, ENCODED)
    values = (centres[rng.integers(0, 1000, count)] + 0.8 * rng.normal(size=(count, width))).astype(np.float32)
    book = train_pq(values[:40_000], subspaces, iterations=8)
    codes = np.resize(book.encode(values), (n, subspaces))
    for start in range(count, n, CHUNK):
        chunk = codes[start : start + CHUNK]
        changed = rng.random(chunk.shape) < 0.25
        chunk[changed] = rng.integers(0, 256, int(changed.sum()), dtype=np.uint8)
    aims = values[rng.integers(0, count, queries)] + 0.5 * rng.normal(size=(queries, width))
    return book, codes, aims.astype(np.float32)


def fast_scan_of(book: CodeBook, codes: np.ndarray) -> Any:
    """faiss's 4-bit index of as many bytes a code, over the vectors the codes stand for."""
    index = faiss.IndexPQFastScan(book.width, 2 * book.subspaces, 4)
    index.train(book.decode(codes[:40_000]))
    for start in range(0, len(codes), CHUNK):
        index.add(book.decode(codes[start : start + CHUNK]))
    return index


def nanopq_of(book: CodeBook) -> Any:
    """nanopq's quantiser with our code book."""
    peer = nanopq.PQ(M=book.subspaces, verbose=False)
    peer.Ds, peer.codewords = book.centroids.shape[2], book.centroids
    return peer


def exact_images(table: np.ndarray, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest images by the float table: image indices and distances."""
    parts = [code_distances(table, codes[start : start + CHUNK]) for start in range(0, len(codes), CHUNK)]
    best = np.minimum.reduceat(np.concatenate(parts), np.arange(0, len(codes), REGIONS_AN_IMAGE))
    order = np.lexsort((np.arange(len(best)), best))[:k]
    return order, best[order]


def interleaved(runs: dict[str, Callable[[], Any]], repeats: dict[str, int], queries: int) -> dict[str, list[float]]:
    """Milliseconds a query of each run, taken in turn so that a drift of the machine meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    runs["ours"]()
    for turn in range(max(repeats.values())):
        for name, run in runs.items():
            if turn < repeats[name]:
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3 / queries)
    return times


def read_bandwidth(size: int) -> float:
    """GB/s of one thread that reads memory as fast as numpy can."""
    memory = np.ones(max(size, 1 << 28) // 8, np.uint64)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        memory.sum()
        seconds.append(time.perf_counter() - start)
    return memory.nbytes / min(seconds) / 1e9


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns the line that --json prints."""
    faiss.omp_set_num_threads(1)
    book, codes, queries = made_up_gallery(options.n, options.bytes, options.queries)
    images = (np.arange(options.n) // REGIONS_AN_IMAGE).astype(np.int32)
    scan = CodeScan(options.bytes, options.isa)
    start = time.perf_counter()
    scan.append(codes, images)
    load_seconds = time.perf_counter() - start
    tables = book.tables(queries)
    exact = [exact_images(table, codes, options.k) for table in tables]
    index, fast_scan, peer = faiss_from_codebook(book, codes), fast_scan_of(book, codes), nanopq_of(book)
    runs = {
        "ours": lambda: scan.search(tables, options.k),
        "faiss_pq": lambda: index.search(queries, options.k),
        "faiss_fastscan": lambda: fast_scan.search(queries, options.k),
        "nanopq": lambda: np.argpartition(peer.dtable(queries[0]).adist(codes), options.k - 1)[: options.k],
    }
    repeats = {"ours": 4 * options.repeats, "faiss_pq": options.repeats, "faiss_fastscan": 4 * options.repeats}
    times = interleaved(runs, {**repeats, "nanopq": 2}, options.queries)
    times["nanopq"] = [value * options.queries for value in times["nanopq"]]
    found_images, found_distances, _ = scan.search(tables, options.k)
    right = [
        np.isin(found, images).mean() if np.array_equal(distances, theirs) else 0.0
        for found, distances, (images, theirs) in zip(found_images, found_distances, exact, strict=True)
    ]
    median = {name: statistics.median(values) for name, values in times.items()}
    least = {name: min(values) for name, values in times.items()}
    return {
        "n": options.n,
        "bytes": options.bytes,
        "queries": options.queries,
        "k": options.k,
        "isa": scan.isa,
        "ms_per_query": median["ours"],
        "ms_per_query_min": least["ours"],
        "faiss_pq_ms": median["faiss_pq"],
        "faiss_pq_ms_min": least["faiss_pq"],
        "faiss_fastscan_ms": median["faiss_fastscan"],
        "faiss_fastscan_ms_min": least["faiss_fastscan"],
        "nanopq_ms": median["nanopq"],
        "ratio_to_faiss_pq": median["faiss_pq"] / median["ours"],
        "ratio_to_faiss_pq_min": least["faiss_pq"] / least["ours"],
        "ratio_to_faiss_fastscan": median["faiss_fastscan"] / median["ours"],
        "exact_top100_recall": float(np.mean(right)),
        "codes_gb_per_s": codes.nbytes / least["ours"] / 1e6,
        "read_gb_per_s": read_bandwidth(codes.nbytes),
        "load_seconds": load_seconds,
        "bytes_per_region": scan.memory_bytes / options.n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measured(options)
    result |= {
        "machine": platform.processor() or platform.machine(),
        "versions": {"faiss": faiss.__version__, "numpy": np.__version__},
        "date": date.today().isoformat(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"scan_{options.n:.0e}x{options.bytes}_{options.queries}_{result['isa']}.json".replace("+0", "")
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}")


if __name__ == "__main__":
    main()
