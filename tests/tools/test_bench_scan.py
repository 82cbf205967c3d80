"""The scan's benchmark at small sizes: the exact top 100 is found in every case, and the promised keys are there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_claid.ops.cpu._scan import supported_isas

pytest.importorskip("faiss", reason="faiss is an optional peer")
pytest.importorskip("nanopq", reason="nanopq is an optional peer")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import bench_scan

PROMISED = {
    "n",
    "bytes",
    "queries",
    "ms_per_query",
    "faiss_pq_ms",
    "faiss_fastscan_ms",
    "nanopq_ms",
    "ratio_to_faiss_pq",
    "exact_top100_recall",
}


@pytest.mark.parametrize("subspaces", [4, 8, 16, 32])
def test_exact_top_100_on_every_kernel(subspaces):
    isas = supported_isas()
    found = bench_scan.measured(30_000, subspaces, (1, 16), isas, 100, 1)
    assert [(line["queries"], line["isa"]) for line in found] == [(q, isa) for q in (1, 16) for isa in isas]
    for line in found:
        assert set(line) >= PROMISED
        assert line["exact_top100_recall"] == 1.0
        assert line["bytes_per_region"] < subspaces + 14


def test_a_missing_neighbour_is_told():
    book, codes, queries = bench_scan.made_up_gallery(30_000, 8, 1)
    tables = book.tables(queries)
    exact = bench_scan.exact_images(tables[0], codes, 100)
    scan = bench_scan.CodeScan(8)
    images = (bench_scan.np.arange(30_000) // 30).astype("int32")
    scan.append(codes, images)
    assert bench_scan.recall(scan, tables, [exact], 100) == 1.0
    scan.remove(exact[0][:1].astype("int32"))
    assert bench_scan.recall(scan, tables, [exact], 100) == 0.0
