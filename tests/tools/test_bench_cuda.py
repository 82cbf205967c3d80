"""The GPU benchmark runs through on the model of a GPU; its times mean nothing there, its comparisons do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "tools"), str(HERE.parent / "ops"), str(HERE.parent / "ops" / "cuda_model")]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Where the kernels that are built for the model lie."""
    return tmp_path_factory.mktemp("kernels")


def test_every_figure_is_there_and_every_comparison_holds(tmp_path, built):
    import bench_cuda
    from decomposition_cases import clusters
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    path = tmp_path / "tokens.npz"
    np.savez(path, a_8x9=clusters((8, 9), 16, 4), b_8x9=clusters((8, 9), 16, 3), c_5x5=clusters((5, 5), 16, 2))
    tokens = bench_cuda.read_tokens(path)
    assert {grid: len(images) for grid, images in tokens.items()} == {(8, 9): 2, (5, 5): 1}
    with ModelDevice(built) as device:
        figures = {}
        for name, work in bench_cuda.parts_of(device, tokens, 0, quick=True).items():
            figures[name] = bench_cuda.guarded(work, figures)
        longest = bench_cuda.longest_scan(device, None, quick=True)
        failed = bench_cuda.guarded(lambda _: device.empty((1 << 40,), np.uint8), {})
    assert failed["failed"].startswith("MachineError: the GPU has no")
    assert figures["decomposition_identity"] == {"pictures": 3, "identical": 3}
    assert figures["scan_is_exact"]
    assert [(row["rows"], row["queries"]) for row in longest] == [(20_000, 1), (20_000, 16)]
    assert {(row["bytes"], row["queries"]) for row in figures["scan"]} == {(m, q) for m in (8, 16, 32) for q in (1, 16)}
    assert set(figures["path"]["stages"]) == {"regions", "pool", "project", "encode", "tables", "scan"}
    assert [row["batch"] for row in figures["decomposition"]] == [1, 2]
    grown = [(row["tokens"], row["batch"]) for row in figures["decomposition_by_size"]]
    assert grown == [(size, batch) for size in ("5x5x16", "8x9x8", "8x9x32") for batch in (1, 2)]


def test_the_size_that_is_asked_for_is_the_one_measured():
    """Four pictures of 26x39 stand before four of 32x32 in the folder for the GPU machine."""
    import bench_cuda_trees

    made = {(26, 39): [np.zeros((1014, 4))] * 4, (32, 32): [np.zeros((1024, 4))] * 4, (2, 3): [np.zeros((6, 4))] * 5}
    assert bench_cuda_trees.asked_grid(made) == (32, 32)
    del made[32, 32]
    assert bench_cuda_trees.asked_grid(made) == (2, 3)
    field = np.arange(24.0).reshape(2, 3, 4)
    assert bench_cuda_trees.sized_tokens(field, (1, 2, 3)).tolist() == [[0, 1, 2], [4, 5, 6]]
    mirrored = bench_cuda_trees.sized_tokens(field, (5, 3, 8)).reshape(5, 3, 8)
    np.testing.assert_array_equal(mirrored[:2, :, :4], field)
    np.testing.assert_array_equal(mirrored[2:4, :, :4], field[::-1])


def test_what_a_bare_machine_lacks_costs_its_own_figure_only(built, monkeypatch):
    """Without a compiler there the CPU's ops are missing: comparisons with them fail, times on the GPU do not."""
    import bench_cuda
    from decomposition_cases import clusters
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    for name in ("edge_claid.ops.cpu", "edge_claid.ops.cpu.scan_op"):
        monkeypatch.setitem(sys.modules, name, None)
    tokens = {(8, 9): [clusters((8, 9), 16, 4)]}
    with ModelDevice(built) as device:
        figures = {}
        for name, work in bench_cuda.parts_of(device, tokens, 0, quick=True).items():
            figures[name] = bench_cuda.guarded(work, figures)
    failed = {name: found["failed"] for name, found in figures.items() if isinstance(found, dict) and "failed" in found}
    assert set(failed) == {"decomposition_identity", "scan_is_exact"}, failed
    assert [row["cpu_ms_an_image"] for row in figures["decomposition"]] == [None, None]


def test_the_peer_by_torch_runs_through():
    """On the CPU: names and shapes are torch's, there is nothing to time."""
    pytest.importorskip("torch")
    from torch_gather import torch_gather_ms

    calls = []
    codes, table = np.zeros((300, 8), np.uint8), np.ones((8, 256), np.float32)
    assert torch_gather_ms(codes, table, 100, lambda work: calls.append(work()) or 7.0, "cpu") == 7.0
    assert calls == [None]
    # More nearest regions than there are: what torch refuses costs this figure only.
    assert torch_gather_ms(codes, table, 301, lambda work: calls.append(work()) or 7.0, "cpu").startswith("failed")


def test_kernels_travel_by_their_sources(tmp_path):
    pytest.importorskip("torch")
    import gpu_check_data

    from edge_claid.ops.cuda.compile import FAMILIES, found_nvcc, source_hash

    if found_nvcc() is None:
        pytest.skip("no nvcc")
    gpu_check_data.write_kernels(tmp_path, "sm_90")
    wanted = {f"{family}-sm_90-{source_hash(family)}.fatbin" for family in FAMILIES}
    assert {path.name for path in (tmp_path / "kernels").iterdir()} == wanted
