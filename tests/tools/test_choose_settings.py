"""The tool that makes the tables of choices."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_claid.config import Settings
from edge_claid.descriptors.pool import cells_from_pixels
from edge_claid.ops.reference.pool import pool_boxes


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    file = Path(__file__).resolve().parents[2] / "tools" / "choose_settings.py"
    spec = importlib.util.spec_from_file_location("choose_settings", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_choice_has_the_default_among_its_rows(tool):
    for choice, rows in tool.CHOICES.items():
        assert len({row.name for row in rows}) == len(rows) > 1, choice
        plain = [row for row in rows if row.settings == Settings() and row.treatment is tool.in_its_picture]
        assert any(row.pipeline is tool.RememberingPipeline for row in plain), choice


def test_a_full_mask_pools_as_the_box_does(tool):
    rng = np.random.default_rng(2)
    values = rng.uniform(0, 4, (6, 5, 7)).astype(np.float32)
    boxes = np.array([[0, 0, 70, 50], [12, 8, 47, 33]], np.float32)
    pooled = pool_boxes(values, cells_from_pixels(boxes, (5, 7), (70, 50), 1.0), 3.0)
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    full = np.ones((2, 10, 14))
    np.testing.assert_allclose(tool.masked_mean(values, boxes, full, (70, 50), 3.0), expected, rtol=1e-4)
    half = full.copy()
    half[:, :, 7:] = 0
    left = np.array([[0, 0, 35, 50]], np.float32)
    pooled = pool_boxes(values, cells_from_pixels(left, (5, 7), (70, 50), 1.0), 3.0)
    expected = pooled / np.linalg.norm(pooled)
    np.testing.assert_allclose(tool.masked_mean(values, boxes[:1], half[:1], (70, 50), 3.0), expected, rtol=1e-4)
