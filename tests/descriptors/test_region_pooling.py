"""Pooling of several maps into one descriptor."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.config import DescriptorSettings
from edge_claid.descriptors.pool import RegionPooling
from edge_claid.ops.reference.pool import pool_boxes
from edge_claid.records import FeatureMap, Regions

BOXES = np.array([[0, 0, 64, 64], [8, 8, 40, 24]], np.float32)


@pytest.fixture
def maps() -> FeatureMap:
    rng = np.random.default_rng(0)
    values, middle, fine = (rng.uniform(0, 3, (c, n, n)).astype(np.float32) for c, n in ((7, 2), (5, 4), (3, 8)))
    return FeatureMap(values, (64, 64), (middle, fine))


def test_each_map_has_its_share_of_the_norm(maps):
    pooling = RegionPooling(DescriptorSettings(share_16=0.5, share_8=0.25), pool_boxes)
    values = pooling.describe(maps, BOXES).values
    assert pooling.parts([7, 5, 3]) == [7, 5, 3]
    shares = [(part**2).sum(axis=1) for part in np.split(values, [7, 12], axis=1)]
    np.testing.assert_allclose(np.stack(shares, axis=1), [[1 / 1.75, 0.5 / 1.75, 0.25 / 1.75]] * 2, rtol=1e-5)


def test_a_part_is_its_map_pooled_alone(maps):
    together = RegionPooling(DescriptorSettings(), pool_boxes).describe(maps, BOXES).values
    alone = RegionPooling(DescriptorSettings(), pool_boxes).describe(FeatureMap(maps.inner[0], (64, 64)), BOXES).values
    middle = together[:, 7:12]
    np.testing.assert_allclose(middle / np.linalg.norm(middle, axis=1, keepdims=True), alone, rtol=1e-5)
    assert not np.allclose(alone[0], alone[1])


def test_a_share_of_nothing_leaves_the_map_out(maps):
    pooling = RegionPooling(DescriptorSettings(share_16=0.0), pool_boxes)
    assert pooling.parts([7, 5, 3]) == [7, 3]
    assert pooling.describe(maps, BOXES).values.shape == (2, 10)


def test_masks_are_pooled_over_where_they_are_asked_for(maps):
    tokens = np.zeros((2, 4, 4), bool)
    tokens[0], tokens[1, 1, 1] = True, True
    packed = np.packbits(tokens.reshape(2, -1), axis=1, bitorder="little")
    counts = np.zeros(2, np.int32)
    regions = Regions(BOXES, counts, counts, counts, counts, counts, packed, (4, 4), (64, 64))
    by_box, by_mask = (
        RegionPooling(DescriptorSettings(mask=mask), pool_boxes).describe_regions(maps, regions).values
        for mask in (False, True)
    )
    np.testing.assert_array_equal(by_box, RegionPooling(DescriptorSettings(), pool_boxes).describe(maps, BOXES).values)
    np.testing.assert_allclose(by_mask[0], by_box[0], rtol=1e-6)  # the whole picture is its own box
    # Token (1, 1) is the cell (1, 1) of the middle map, of which the box holds the right lower quarter.
    middle = maps.inner[0][:, 1, 1]
    part = by_mask[1, 7:12]
    np.testing.assert_allclose(part / np.linalg.norm(part), middle / np.linalg.norm(middle), rtol=1e-5)
    assert not np.allclose(by_mask[1], by_box[1])
