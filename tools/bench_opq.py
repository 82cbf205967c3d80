"""Training of code books: time and reconstruction error of ours, faiss's and nanopq's OPQ on the same descriptors.

    python tools/bench_opq.py [GALLERY.claid] [--bytes 8 16] [--threads 1] [--json]

On made-up descriptors (10,000 x 384) and, where a gallery that keeps its descriptors is given, on those, whitened as
its code space whitens them. ``seconds`` are the processor's, so other work on the machine counts little. ``error`` is
the squared error over the training rows relative to their squares, ``held_out`` the same on rows not trained on, whole
stretches of them as neighbours are of one image. ``ours within faiss's time`` is our longest training that took no
longer than faiss's. Figures go to benchmarks/results/opq.json, a part for each set of descriptors and code length.
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
from typing import Any

import numpy as np
import results_file

ROTATIONS = 10
OUR_ROTATIONS = (3, 10, 20, 30)
HELD_OUT = 4  # one stretch in so many
STRETCH = 400  # rows
MOST_ROWS = 40_000


def made_up_descriptors(rows: int = 10_000, width: int = 384, seed: int = 0) -> np.ndarray:
    """Unit vectors (rows, width) in 500 clusters, with a falling spectrum along random axes."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(width, width)))[0]
    spectrum = np.arange(1, width + 1) ** -0.5
    centres = rng.normal(size=(500, width))
    values = (centres[rng.integers(0, 500, rows)] + 0.7 * rng.normal(size=(rows, width))) * spectrum @ axes
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def gallery_descriptors(path: Path) -> np.ndarray:
    """Descriptors (N, d) of a gallery's regions as its code space projects them, image by image."""
    from edge_claid.gallery.store import Gallery

    with Gallery.open(path, "r") as gallery:
        if gallery.space is None:
            raise SystemExit(f"{path} has no code space yet: enrol more")
        return gallery.space.project(gallery.descriptors(MOST_ROWS))


Reconstruct = Callable[[np.ndarray], np.ndarray]


def trained_by_faiss(values: np.ndarray, subspaces: int, threads: int) -> Reconstruct:
    """OPQMatrix of ten rotations and a ProductQuantizer."""
    import faiss

    faiss.omp_set_num_threads(threads)
    transform = faiss.OPQMatrix(values.shape[1], subspaces)
    transform.niter = ROTATIONS
    transform.train(values)
    quantiser = faiss.ProductQuantizer(values.shape[1], subspaces, 8)
    quantiser.train(transform.apply(values))
    return lambda rows: transform.reverse_transform(quantiser.decode(quantiser.compute_codes(transform.apply(rows))))


def trained_by_nanopq(values: np.ndarray, subspaces: int) -> Reconstruct:
    """nanopq's OPQ of ten rotations."""
    import nanopq

    peer = nanopq.OPQ(M=subspaces, verbose=False)
    peer.fit(values, rotation_iter=ROTATIONS)
    return lambda rows: peer.decode(peer.encode(rows))


def trained_by_us(values: np.ndarray, subspaces: int, rotations: int) -> Reconstruct:
    from edge_claid.codes.opq import train_opq

    book = train_opq(values, subspaces, rotations)
    return lambda rows: book.decode(book.encode(rows))


def measured(train: Callable[[np.ndarray], Reconstruct], values: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """Seconds of a training and its reconstruction errors, seen and unseen."""
    start = time.process_time()
    reconstruct = train(values)
    seconds = time.process_time() - start
    errors = [((rows - reconstruct(rows)) ** 2).sum() / (rows**2).sum() for rows in (values, held_out)]
    return {"seconds": round(seconds, 3), "error": round(float(errors[0]), 5), "held_out": round(float(errors[1]), 5)}


def compared(values: np.ndarray, subspaces: int, threads: int) -> dict[str, Any]:
    """All three on one set of descriptors (N, D)."""
    unseen = np.arange(len(values)) // STRETCH % HELD_OUT == 0
    seen, held_out = np.ascontiguousarray(values[~unseen]), np.ascontiguousarray(values[unseen])
    trained: dict[str, Callable[[np.ndarray], Reconstruct]] = {
        f"ours, {rotations} rotations": lambda rows, rotations=rotations: trained_by_us(rows, subspaces, rotations)  # type: ignore[misc]
        for rotations in OUR_ROTATIONS
    }
    trained["faiss"] = lambda rows: trained_by_faiss(rows, subspaces, threads)
    trained["nanopq"] = lambda rows: trained_by_nanopq(rows, subspaces)
    found: dict[str, Any] = {name: measured(train, seen, held_out) for name, train in trained.items()}
    in_time = [
        found[name] for name in list(found)[: len(OUR_ROTATIONS)] if found[name]["seconds"] <= found["faiss"]["seconds"]
    ]
    found["ours within faiss's time"] = in_time[-1] if in_time else None
    return {"rows": len(seen), "width": values.shape[1], "bytes": subspaces, "threads": threads, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path, nargs="?", help="gallery that keeps its descriptors")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sets = {"made-up": made_up_descriptors()}
    if options.gallery:
        sets["gallery"] = gallery_descriptors(options.gallery)
    for name, values in sets.items():
        for subspaces in options.bytes:
            result = compared(values, subspaces, options.threads)
            results_file.write(results_file.FOLDER / "opq.json", {f"{name}, {subspaces} bytes": result})
            tell(name, result, options.json)


def tell(name: str, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"descriptors": name, **result}), flush=True)
        return
    print(f"{name}: {result['rows']} x {result['width']}, {result['bytes']} bytes")
    for peer, figures in result.items():
        if isinstance(figures, dict):
            errors = f"error {figures['error']:.4f}   held out {figures['held_out']:.4f}"
            print(f"  {peer:25} {figures['seconds']:8.2f} s   {errors}")


if __name__ == "__main__":
    threads = next((word for flag, word in pairwise(sys.argv) if flag == "--threads"), "1")
    if os.environ.get("OPENBLAS_NUM_THREADS") != threads:  # numpy reads it when it is loaded, so start again
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(names, threads)})
    if hasattr(os, "sched_setaffinity"):  # and our own threads share the same few cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    main()
