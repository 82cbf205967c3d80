"""Normalised cuts on tokens whose parts are known."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    file = Path(__file__).resolve().parents[2] / "tools" / "normalised_cut.py"
    spec = importlib.util.spec_from_file_location("normalised_cut", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tokens(parts: np.ndarray, noise: float = 0.2) -> np.ndarray:
    """One direction for each part, with noise: (rows, columns) labels to (N, 32) float32."""
    random = np.random.default_rng(5)
    directions = np.eye(32)[:8]
    return (directions[parts.ravel()] + noise * random.normal(size=(parts.size, 32))).astype(np.float32)


def overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return (mask & other).sum() / (mask | other).sum()


def two_objects() -> np.ndarray:
    parts = np.zeros((18, 24), int)
    parts[3:9, 4:10] = 1
    parts[11:15, 14:21] = 2
    return parts


def test_one_cut_finds_one_object(tool: ModuleType) -> None:
    parts = np.where(two_objects() == 1, 1, 0)
    (mask,) = tool.normalised_cuts(tokens(parts, 0.1), parts.shape)
    assert overlap(mask, parts == 1) > 0.95


def test_three_cuts_find_both_objects(tool: ModuleType) -> None:
    parts = two_objects()
    masks = tool.normalised_cuts(tokens(parts, 0.1), parts.shape, cuts=3)
    assert 2 <= len(masks) <= 3
    for part in (1, 2):
        assert max(overlap(mask, parts == part) for mask in masks) > 0.95
    assert not (masks[0] & masks[1]).any()


def test_eigenvector_equals_the_dense_solution(tool: ModuleType) -> None:
    from scipy.linalg import eigh

    unit = tokens(two_objects())
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    weights = tool.affinity(unit, 0.2)
    degree = np.diag(weights.sum(axis=1))
    dense = eigh(degree - weights, degree, subset_by_index=[1, 1])[1][:, 0]
    found = tool.second_eigenvector(weights)
    cosine = abs(dense @ found) / np.linalg.norm(dense) / np.linalg.norm(found)
    assert cosine == pytest.approx(1, abs=1e-6)


def test_same_tokens_same_masks(tool: ModuleType) -> None:
    features = tokens(two_objects(), 0.3)
    first, second = (tool.normalised_cuts(features, (18, 24), cuts=3) for _ in range(2))
    assert len(first) == len(second) > 0
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("features", [np.ones((12, 4), np.float32), np.zeros((12, 4), np.float32)])
def test_tokens_without_parts_do_not_fail(tool: ModuleType, features: np.ndarray) -> None:
    for mask in tool.normalised_cuts(features, (3, 4), cuts=3):
        assert mask.shape == (3, 4)
        assert mask.any()
