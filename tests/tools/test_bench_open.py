"""The benchmarks of opening and of code books run at a small size and say what they promise."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import bench_open
import bench_opq

from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify


def test_a_made_up_gallery_is_sound_and_opens(tmp_path):
    path = tmp_path / "made-up.claid"
    bench_open.write_gallery(path, 6000, 16)
    with Gallery.open(path, "r") as gallery:
        assert list(verify(gallery)) == []
        assert (gallery.info().images, gallery.info().regions, gallery.info().code_bytes) == (200, 6000, 16)
    found = bench_open.openings(path, 6000, 1)
    assert found["warm_seconds"] > 0
    assert found["peak_rss_mb"] > 10
    assert set(bench_open.keeping_in_step(path, 2)) == {"idle_refresh_ms", "add_one_image_ms", "refresh_ms"}


def test_code_books_are_compared():
    pytest.importorskip("faiss", reason="faiss is an optional peer")
    pytest.importorskip("nanopq", reason="nanopq is an optional peer")
    values = bench_opq.made_up_descriptors(2400, 32)
    found = bench_opq.compared(values, 4, 1)
    assert (found["rows"], found["width"]) == (1600, 32)
    ours = [found[f"ours, {rotations} rotations"]["error"] for rotations in bench_opq.OUR_ROTATIONS]
    assert ours[-1] < ours[0] < 1
    for peer in ("faiss", "nanopq"):
        assert 0 < found[peer]["error"] < found[peer]["held_out"] < 1
    assert np.isclose(found["nanopq"]["error"], ours[-1], rtol=0.2)
