"""The GPU benchmark runs through on the model of a GPU; its times mean nothing there, its comparisons do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "tools"), str(HERE.parent / "ops"), str(HERE.parent / "ops" / "cuda_model")]


def test_every_figure_is_there_and_every_comparison_holds(tmp_path):
    import bench_cuda
    from decomposition_cases import clusters
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    path = tmp_path / "tokens.npz"
    np.savez(path, a_8x9=clusters((8, 9), 16, 4), b_8x9=clusters((8, 9), 16, 3), c_5x5=clusters((5, 5), 16, 2))
    tokens = bench_cuda.read_tokens(path)
    assert {grid: len(images) for grid, images in tokens.items()} == {(8, 9): 2, (5, 5): 1}
    with ModelDevice(tmp_path) as device:
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
