"""Time by step of the decomposition, and the least time each step can take on this processor."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from edge_claid.ops.cpu import _decomposition
from edge_claid.ops.cpu import decomposition_op as cpu
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings

STEPS = ("normalise", "gram", "degrees", "ksums", "components")


def machine_rates() -> dict[str, float]:
    """What tools/cpu_rates.cpp measures, the best of three runs; empty where there is no compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        return {}
    source = Path(__file__).with_name("cpu_rates.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "cpu_rates"
        subprocess.run([compiler, "-O3", "-march=native", source, "-o", program], check=True)
        runs = [json.loads(subprocess.run([program], check=True, capture_output=True).stdout) for _ in range(3)]
    return {name: max(run[name] for run in runs) for name in runs[0]}


def step_table(
    features: np.ndarray, grid: tuple[int, int], rates: dict[str, float], repeats: int = 15
) -> dict[str, dict[str, float]]:
    """Milliseconds by step (the paper's settings, best kernels) and, for those that have one, the floor.

    normalise: the raw tokens read twice. gram: one of each pair's multiply-adds. degrees: each cut node's bit rows
    read once. ksums: the Gram rows of every start and every move read once. Reads at the measured rate of the cache
    that holds the data.
    """
    arguments = cpu.arguments_of(features, None, DecompositionSettings())
    isa = cpu.supported_isas()[0]
    runs = _decomposition.timed(np.ascontiguousarray(features), *grid, arguments, isa, repeats)
    table = {step: {"ms": statistics.median(run[step] for run in runs) * 1e3} for step in STEPS}
    for step in STEPS:
        table[step]["ms_min"] = min(run[step] for run in runs) * 1e3
    count, width = features.shape
    if rates:
        rows = runs[0]["moves"] + runs[0]["start_rows"]
        table["normalise"]["floor_ms"] = 2e3 * features.nbytes / read_rate(rates, features.nbytes)
        if f"{isa}_products" in rates:
            table["gram"]["floor_ms"] = 1e3 * count * (count + 1) / 2 * width / rates[f"{isa}_products"]
        table["degrees"]["floor_ms"] = 1e3 * runs[0]["start_rows"] * count / 8 / read_rate(rates, count * count // 8)
        table["ksums"]["floor_ms"] = 1e3 * rows * count * 2 / read_rate(rates, count * count * 2)
    table["counts"] = {name: runs[0][name] for name in ("moves", "start_rows", "workspace_bytes")}
    return table


def read_rate(rates: dict[str, float], size: float) -> float:
    """Bytes a second from the cache that holds so many bytes."""
    return rates["read_256kB" if size <= 1 << 19 else "read_2MB" if size <= 1 << 22 else "read_16MB"]
