"""Training of code books: time and reconstruction error of ours, faiss's and nanopq's OPQ on the same descriptors.

python tools/bench_opq.py [--rows 10000] [--width 384] [--bytes 8] [--threads 1] [--features FILE.npy] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np


def made_up_descriptors(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Unit vectors (rows, width) in 500 clusters, with a falling spectrum along random axes."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(width, width)))[0]
    spectrum = np.arange(1, width + 1) ** -0.5
    centres = rng.normal(size=(500, width))
    values = (centres[rng.integers(0, 500, rows)] + 0.7 * rng.normal(size=(rows, width))) * spectrum @ axes
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def trained_by_faiss(values: np.ndarray, subspaces: int, threads: int) -> np.ndarray:
    """Reconstruction by OPQMatrix of 10 rotations and a ProductQuantizer."""
    import faiss

    faiss.omp_set_num_threads(threads)
    transform = faiss.OPQMatrix(values.shape[1], subspaces)
    transform.niter = 10
    transform.train(values)
    rotated = transform.apply(values)
    quantiser = faiss.ProductQuantizer(values.shape[1], subspaces, 8)
    quantiser.train(rotated)
    return transform.reverse_transform(quantiser.decode(quantiser.compute_codes(rotated)))


def trained_by_nanopq(values: np.ndarray, subspaces: int) -> np.ndarray:
    """Reconstruction by nanopq's OPQ of 10 rotations."""
    import nanopq

    peer = nanopq.OPQ(M=subspaces, verbose=False)
    peer.fit(values, rotation_iter=10)
    return peer.decode(peer.encode(values))


def trained_by_us(values: np.ndarray, subspaces: int, iterations: int) -> np.ndarray:
    """Reconstruction by our OPQ."""
    from edge_claid.codes.opq import train_opq

    book = train_opq(values, subspaces, iterations)
    return book.decode(book.encode(values))


def measured(values: np.ndarray, reconstruct: Callable[[], np.ndarray]) -> dict[str, float]:
    """Seconds of a training and its reconstruction, and the squared error relative to the values."""
    start = time.perf_counter()
    reconstructed = reconstruct()
    seconds = time.perf_counter() - start
    error = float(((values - reconstructed) ** 2).sum() / (values**2).sum())
    return {"seconds": round(seconds, 3), "error": round(error, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--features", type=Path, help="descriptors (N, D) float32 instead of made-up ones")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    values = made_up_descriptors(options.rows, options.width)
    if options.features:
        values = np.ascontiguousarray(np.load(options.features, allow_pickle=False)[: options.rows], np.float32)
    results: dict[str, dict[str, float]] = {}
    for iterations in (3, 10):
        results[f"ours, {iterations} rotations"] = measured(
            values, lambda n=iterations: trained_by_us(values, options.bytes, n)
        )
    results["faiss"] = measured(values, lambda: trained_by_faiss(values, options.bytes, options.threads))
    results["nanopq"] = measured(values, lambda: trained_by_nanopq(values, options.bytes))
    if options.json:
        about = {"rows": len(values), "width": values.shape[1], "bytes": options.bytes, "threads": options.threads}
        print(json.dumps({**about, "results": results}))
        return
    for name, result in results.items():
        print(f"{name:20} {result['seconds']:8.2f} s   error {result['error']:.4f}")


if __name__ == "__main__":
    threads = next((word for flag, word in pairwise(sys.argv) if flag == "--threads"), "1")
    if os.environ.get("OPENBLAS_NUM_THREADS") != threads:  # numpy reads it when it is loaded, so start again
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(names, threads)})
    if hasattr(os, "sched_setaffinity"):  # and our own threads share the same few cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    main()
