"""Inputs of the decomposition that every backend is held to: real tokens, random ones, awkward ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from edge_claid.ops.reference.region_tree import Tree


@dataclass(frozen=True)
class Case:
    """features: (N, D) float32. grid: (rows, columns). options: keyword arguments of the op."""

    features: np.ndarray
    grid: tuple[int, int]
    options: dict = field(default_factory=dict)


def same(one: Tree, other: Tree) -> bool:
    """Equal to the bit, dtypes and shapes included."""
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(Tree)]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def golden(shared_data: Path):
    """The golden file's arrays and its index."""
    arrays = np.load(shared_data / "golden" / "claid_golden.npz")
    return arrays, json.loads(bytes(arrays["index_json"]).decode())


def golden_cases(shared_data: Path) -> dict[str, Case]:
    """All golden images as they are, and with their mean token taken off."""
    arrays, index = golden(shared_data)
    cases = {}
    for entry in index:
        features = arrays[f"{entry['key']}/tokens_f16"].astype(np.float32)
        grid = (int(entry["grid"][0]), int(entry["grid"][1]))
        cases[entry["key"]] = Case(features, grid)
        cases[entry["key"] + " centred"] = Case(features, grid, {"center": features.mean(axis=0)})
    return cases


def clusters(grid: tuple[int, int], width: int, seed: int) -> np.ndarray:
    """Tokens in vertical bands and horizontal stripes of Gaussian clusters, so that trees are several levels deep."""
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    bands, stripes = columns * 3 // grid[1], rows * 4 // grid[0]
    centers = rng.normal(size=(3, width))[bands] + 0.8 * rng.normal(size=(3, 4, width))[bands, stripes]
    return (centers + 0.7 * rng.normal(size=(len(bands), width))).astype(np.float32)


def made_cases() -> dict[str, Case]:
    """Random and awkward tokens; the 10,000 are left to big_case."""
    rng = np.random.default_rng(11)
    cases = {
        f"clusters {rows}x{columns}x{width}": Case(clusters((rows, columns), width, width), (rows, columns))
        for rows, columns, width in [(16, 16, 64), (33, 31, 100), (24, 40, 384), (20, 20, 5), (40, 41, 33), (9, 7, 768)]
    }
    base = clusters((16, 18), 64, 5)
    with_zero = base.copy()
    with_zero[[0, 100, 287]] = 0
    cases |= {
        "noise": Case(rng.normal(size=(300, 48)).astype(np.float32), (15, 20)),
        "small parts": Case(base, (16, 18), {"smallest": 1}),
        "few nodes": Case(base, (16, 18), {"smallest": 2, "max_nodes": 5}),
        "negative alpha": Case(base, (16, 18), {"alpha": -0.1}),
        "high alpha": Case(base, (16, 18), {"alpha": 0.9}),
        "low tau1": Case(base, (16, 18), {"tau1": 0.3, "energy_share": 0.1}),
        "all high": Case(base, (16, 18), {"energy_share": 1.0}),
        "zero tokens": Case(with_zero, (16, 18)),
        "all zero": Case(np.zeros((100, 32), np.float32), (10, 10)),
        "all equal": Case(np.tile(base[:1], (100, 1)), (10, 10)),
        "zero once centred": Case(np.tile(base[:1], (100, 1)), (10, 10), {"center": base[0]}),
        "opposite halves": Case(np.repeat(np.array([[1.0], [-1.0]], np.float32), 32, axis=0), (8, 8)),
        "fewer than smallest": Case(base[:12], (3, 4)),
        "one token": Case(base[:1], (1, 1)),
        "two tokens": Case(base[:2], (1, 2), {"smallest": 1}),
        "one row": Case(base, (1, 288)),
        "one column": Case(base, (288, 1)),
        "huge": Case(base * np.float32(1e15), (16, 18)),
        "tiny": Case(base * np.float32(1e-22), (16, 18)),
        "width 1": Case(base[:, :1].copy(), (16, 18)),
        "one spike": Case(np.where(np.arange(64) == 3, base * 40, base), (16, 18)),
    }
    return cases


def big_case() -> Case:
    """10,000 tokens."""
    return Case(clusters((100, 100), 32, 9), (100, 100))


def unusable() -> dict[str, np.ndarray]:
    """(16, 8) tokens that are no picture's."""
    good = np.ones((16, 8), np.float32)
    bad = {}
    for name, value in {"nan": np.nan, "inf": np.inf, "minus inf": -np.inf, "overflow": 3e38}.items():
        bad[name] = good.copy()
        bad[name][5, 3] = value
    return bad
