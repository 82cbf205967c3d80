"""Time of a search without the networks, by gallery file: the default answer and all images, beside plain float search.

    python tools/bench_search.py GALLERY.claid [--queries 50] [--json]

Queries are descriptors of the gallery's own regions where it keeps them, else random ones. The peer in the same run is
NumPy's float product over all kept descriptors in the gallery's projection.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np

from edge_claid import ops
from edge_claid.codes.projection import normalised
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.records import Descriptors

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def milliseconds(search: GallerySearch, queries: np.ndarray, k: int) -> float:
    """Median time of one query."""
    search.query(Descriptors(queries[:1]), k)
    times = []
    for query in queries:
        start = time.perf_counter()
        search.query(Descriptors(query[None]), k)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with Gallery.open(arguments.gallery) as gallery:
        info = gallery.info()
        kept = gallery.descriptors(4 * arguments.queries).astype(np.float32)
        width = kept.shape[1] if kept.size else 1280
        queries = kept if kept.size else np.abs(np.random.default_rng(0).normal(size=(arguments.queries, width)))
        queries = normalised(queries.astype(np.float32))[: arguments.queries]
        start = time.perf_counter()
        coded = GallerySearch(gallery, ops.load().code_scan)
        figures = {
            "images": info.images,
            "regions": info.regions,
            "code_bytes": info.code_bytes,
            "open_ms": (time.perf_counter() - start) * 1000,
            "top_10_ms": milliseconds(coded, queries, 10),
            "all_images_ms": milliseconds(coded, queries, 0),
        }
        if kept.size and info.code_bytes:
            exact = GallerySearch(gallery, ops.load().code_scan, exact=True)
            figures["float_top_10_ms"] = milliseconds(exact, queries, 10)
            figures["ratio_to_float"] = figures["float_top_10_ms"] / figures["top_10_ms"]
    result = {**figures, "machine": platform.processor() or platform.machine(), "date": date.today().isoformat()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "search.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if arguments.json else "\n".join(f"{key}: {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
