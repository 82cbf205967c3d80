"""Exact search over codes beside faiss and nanopq, one thread, in one run.

    python tools/bench_scan.py [--n REGIONS] [--bytes M] [--queries Q] [--isa avx512|avx2|neon|scalar] [--k K] [--json]
    python tools/bench_scan.py --all [--json]

Thirty regions an image; ours gives the k nearest images, the peers the k nearest regions. Our answer is compared with
that of the float tables. Medians over --repeats interleaved runs; *_min are the least. ``read_gb_per_s`` is what one
thread reads from memory by numpy's sum or maximum, ``codes_gb_per_s`` our codes, each counted once a query. --all runs
what docs/scan.md tells of, every kernel of this machine. Figures go to benchmarks/results/scan.json, a part for each
case.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import faiss
import nanopq
import numpy as np
import results_file

from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.faiss_io import faiss_from_codebook
from edge_claid.codes.pq import train_pq
from edge_claid.ops.cpu._scan import CodeScan, supported_isas
from edge_claid.ops.reference.scan import code_distances

# Regions, bytes a code, kernels: the sizes that are told of, and shorter and longer codes beside them.
ALL = [
    (1_000_000, 4, ("avx512", "avx2", "neon")),
    (1_000_000, 8, ("avx512", "avx2", "neon", "scalar")),
    (1_000_000, 16, ("avx512", "avx2", "neon")),
    (1_000_000, 32, ("avx512", "avx2", "neon")),
    (10_000_000, 8, ("avx512", "avx2", "neon")),
    (10_000_000, 16, ("avx512", "avx2", "neon")),
]
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
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index.train(book.decode(codes[:40_000]))
    for start in range(0, len(codes), CHUNK):
        index.add(book.decode(codes[start : start + CHUNK]))
    faiss.omp_set_num_threads(1)
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


def interleaved(runs: dict[str, Callable[[], Any]], repeats: dict[str, int]) -> dict[str, list[float]]:
    """Milliseconds of each run, taken in turn so that a drift of the machine meets all alike; the first is not told."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(1 + max(repeats.values())):
        for name, run in runs.items():
            if turn <= repeats[name]:
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: values[1:] for name, values in times.items()}


def read_bandwidth(size: int) -> float:
    """GB/s of one thread that reads memory as fast as numpy can."""
    memory = np.ones(max(size, 1 << 28) // 8, np.uint64)
    seconds = []
    for read in (memory.sum, memory.max) * 5:
        start = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - start)
    return memory.nbytes / min(seconds) / 1e9


def measured(
    n: int, subspaces: int, query_counts: Iterable[int], isas: Iterable[str], k: int, repeats: int
) -> list[dict[str, Any]]:
    """Run everything for one gallery: a line for every number of queries and kernel."""
    query_counts = list(query_counts)
    book, codes, queries = made_up_gallery(n, subspaces, max(query_counts))
    images = (np.arange(n) // REGIONS_AN_IMAGE).astype(np.int32)
    scans, load_seconds = {}, {}
    for isa in isas:
        scans[isa] = CodeScan(subspaces, isa)
        start = time.perf_counter()
        scans[isa].append(codes, images)
        load_seconds[isa] = time.perf_counter() - start
    peers = faiss_from_codebook(book, codes), fast_scan_of(book, codes), nanopq_of(book)
    exact = [exact_images(table, codes, k) for table in book.tables(queries)]
    bandwidth = read_bandwidth(codes.nbytes)
    found = []
    for count in query_counts:
        times = timed(book, codes, queries[:count], scans, peers, k, repeats)
        for isa, scan in scans.items():
            found.append(
                {
                    "n": n,
                    "bytes": subspaces,
                    "queries": count,
                    "k": k,
                    "isa": scan.isa,
                    **ratios({"ours": times[isa], **{name: times[name] for name in times if name not in scans}}),
                    "exact_top100_recall": recall(scan, book.tables(queries[:count]), exact, k),
                    "codes_gb_per_s": codes.nbytes / min(times[isa]) / 1e6,
                    "read_gb_per_s": bandwidth,
                    "load_seconds": load_seconds[isa],
                    "bytes_per_region": scan.memory_bytes / n,
                }
            )
    return found


def timed(
    book: CodeBook,
    codes: np.ndarray,
    queries: np.ndarray,
    scans: dict[str, CodeScan],
    peers: tuple[Any, Any, Any],
    k: int,
    repeats: int,
) -> dict[str, list[float]]:
    """Milliseconds a query of every kernel and every peer; nanopq takes one query at a time."""
    index, fast_scan, peer = peers
    tables = book.tables(queries)
    runs: dict[str, Callable[[], Any]] = {
        name: lambda scan=scan: scan.search(tables, k)  # type: ignore[misc]
        for name, scan in scans.items()
    }
    turns = dict.fromkeys(scans, 4 * repeats) | {"faiss_pq": repeats, "faiss_fastscan": 4 * repeats, "nanopq": 2}
    runs["faiss_pq"] = lambda: index.search(queries, k)
    runs["faiss_fastscan"] = lambda: fast_scan.search(queries, k)
    runs["nanopq"] = lambda: np.argpartition(peer.dtable(queries[0]).adist(codes), k - 1)[:k]
    times = interleaved(runs, turns)
    return {name: [ms / (1 if name == "nanopq" else len(queries)) for ms in values] for name, values in times.items()}


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """Medians and least of ours and the peers, and how many times faster ours is."""
    median = {name: statistics.median(values) for name, values in times.items()}
    least = {name: min(values) for name, values in times.items()}
    return {
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
        "ratio_to_faiss_fastscan_min": least["faiss_fastscan"] / least["ours"],
    }


def recall(scan: CodeScan, tables: np.ndarray, exact: list[tuple[np.ndarray, np.ndarray]], k: int) -> float:
    """Share of the exact k nearest images that the scan gives, over all queries; 0 where a distance is off by a bit."""
    images, distances, _ = scan.search(tables, k)
    right = [
        np.isin(theirs, found).mean() if np.array_equal(mine, their_distances) else 0.0
        for found, mine, (theirs, their_distances) in zip(images, distances, exact, strict=False)
    ]
    return float(np.mean(right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="every size, kernel and number of queries told of")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    isa = supported_isas()[0] if options.isa == "auto" else options.isa
    cases: list[tuple[int, int, tuple[str, ...]]] = [(options.n, options.bytes, (isa,))]
    if options.all:
        cases = [(n, width, tuple(set(supported_isas()) & set(isas))) for n, width, isas in ALL]
    faiss.omp_set_num_threads(1)
    for n, width, isas in cases:
        counts = (1, 16) if options.all else (options.queries,)
        for result in measured(n, width, counts, sorted(isas), options.k, options.repeats):
            result["faiss"] = faiss.__version__
            name = f"{n:.0e}x{width} q{result['queries']} {result['isa']}".replace("e+0", "e")
            results_file.write(results_file.FOLDER / "scan.json", {name: result})
            tell(name, result, options.json)


def tell(name: str, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result), flush=True)
        return
    ours, peers = f"{result['ms_per_query']:.3f} ms", f"{result['ratio_to_faiss_pq']:.1f}x IndexPQ"
    fast = f"{result['ratio_to_faiss_fastscan']:.2f}x FastScan"
    rates = f"{result['codes_gb_per_s']:.1f} of {result['read_gb_per_s']:.1f} GB/s"
    print(f"{name:20} {ours}, {peers}, {fast}, {rates}, recall {result['exact_top100_recall']}", flush=True)


if __name__ == "__main__":
    main()
