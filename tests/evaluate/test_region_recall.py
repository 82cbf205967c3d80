"""Recall of regions against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.evaluate import iou, region_recall
from edge_claid.evaluate.region_recall import iou_matrix


def test_by_hand() -> None:
    truth = {
        "a": np.array([[0, 0, 10, 10], [20, 20, 30, 30]]),
        "b": np.array([[0, 0, 4, 4]]),
        "c": np.empty((0, 4)),
    }
    regions = {
        "a": np.array([[0, 0, 10, 5], [0, 0, 10, 8], [50, 50, 60, 60]]),  # best IoU 0.8 and 0
        "b": np.array([[0, 0, 4, 1]]),  # 0.25
        "c": np.empty((0, 4)),
    }
    result = region_recall(regions, truth)
    assert result.objects == 3
    assert result.regions_per_image == pytest.approx(4 / 3)
    assert result.recall[0.2] == pytest.approx(2 / 3)
    assert result.recall[0.3] == pytest.approx(1 / 3)
    assert result.recall[0.8] == pytest.approx(1 / 3)
    assert result.recall[0.9] == 0
    assert result.best_iou == pytest.approx((0.8 + 0 + 0.25) / 3)
    assert result.as_json()["recall"]["0.2"] == pytest.approx(2 / 3)


def test_pictures_without_regions_count_as_missed() -> None:
    result = region_recall({"a": np.empty((0, 4))}, {"a": np.array([[0, 0, 1, 1]])})
    assert (result.objects, result.recall[0.2]) == (1, 0)


def test_crowds_are_no_objects() -> None:
    truth = {"a": np.array([[0, 0, 10, 10], [0, 0, 90, 90]])}
    result = region_recall({"a": np.array([[0, 0, 10, 10]])}, truth, {"a": np.array([[0, 0, 90, 90]])})
    assert (result.objects, result.recall[0.9]) == (1, 1)


def test_matrix_equals_the_plain_function() -> None:
    random = np.random.default_rng(3)
    corners = random.uniform(0, 50, (12, 2))
    boxes = np.hstack([corners, corners + random.uniform(1, 40, (12, 2))])
    matrix = iou_matrix(boxes[:5], boxes[5:])
    assert (matrix > 0).sum() > 5
    for row in range(5):
        for column in range(7):
            assert matrix[row, column] == pytest.approx(iou(boxes[row], boxes[5 + column]))
