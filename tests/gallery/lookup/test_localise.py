"""One answer from the scores of an image's regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_claid.gallery.lookup.localise import agreed_region, image_scores, overlaps


def test_score_is_the_weighted_mean_of_the_three_best():
    assert image_scores([np.array([0.1, 0.9, 0.5, 0.7])])[0] == pytest.approx((0.9 + 0.35 + 0.125) / 1.75)


def test_a_lone_region_counts_for_all():
    np.testing.assert_allclose(image_scores([np.array([0.4]), np.array([0.2, 0.6])]), [0.4, (0.6 + 0.15) / 1.75])


def test_overlap_of_known_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    np.testing.assert_allclose(overlaps(boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])


def test_regions_that_agree_outvote_a_lone_best_one():
    boxes = np.array([[0, 0, 10, 10], [50, 50, 90, 90], [52, 50, 92, 90], [50, 52, 90, 92]], float)
    scores = np.array([0.80, 0.78, 0.78, 0.78])
    assert agreed_region(boxes, scores, temperature=0.1) == 1
    assert agreed_region(boxes, scores, temperature=0.001) == 0


def test_of_two_alike_the_one_of_the_query_s_shape_is_taken():
    boxes = np.array([[0, 0, 40, 10], [100, 0, 110, 40]], float)
    scores = np.array([0.80, 0.79])
    assert agreed_region(boxes, scores, 0.1) == 0
    assert agreed_region(boxes, scores, 0.1, aspect=0.25) == 1
    assert agreed_region(boxes, np.array([0.80, 0.40]), 0.1, aspect=0.25) == 0


@given(
    st.lists(st.tuples(*[st.floats(0, 500)] * 2, *[st.floats(1, 200)] * 2, st.floats(-1, 1)), min_size=1, max_size=30)
)
def test_the_answer_is_one_of_the_regions(rows):
    values = np.array(rows)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
    matrix = overlaps(boxes)
    assert (matrix >= 0).all()
    assert (matrix <= 1 + 1e-9).all()
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert 0 <= agreed_region(boxes, values[:, 4], 0.12) < len(boxes)
    assert image_scores([values[:, 4]])[0] <= values[:, 4].max() + 1e-12
