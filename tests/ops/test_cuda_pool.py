"""The shipped pooling kernels on the model of a GPU, and on a real one by ``-m gpu``."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from cuda_devices import model_devices

from edge_claid.config import DescriptorSettings
from edge_claid.descriptors.pool import cells_from_pixels
from edge_claid.errors import UsageError
from edge_claid.ops.cuda.pool_op import MapPooling, RegionsOfMaps, pool_boxes
from edge_claid.ops.reference.pool import pool_boxes as reference_pool


def made_boxes(rng, count, rows, columns):
    corners = np.sort(rng.random((count, 2, 2)), axis=1) * [columns, rows]
    corners[:, 1] = np.minimum(np.maximum(corners[:, 1], corners[:, 0] + 0.05), [columns, rows])
    boxes = corners.reshape(count, 4).astype(np.float32)
    boxes[0] = [0, 0, columns, rows]
    return boxes


@pytest.mark.parametrize("device", model_devices(), indirect=True)
@pytest.mark.parametrize("power", [1.0, 3.0, 2.5, np.inf])
@pytest.mark.parametrize("shape", [(5, 3, 4), (300, 7, 9), (33, 1, 1)])
def test_pooling_is_the_references(device, power, shape):
    rng = np.random.default_rng(shape)
    values = rng.gamma(1.0, 1.0, shape).astype(np.float32)
    boxes = made_boxes(rng, 6, *shape[1:])
    np.testing.assert_allclose(
        pool_boxes(device, values, boxes, power), reference_pool(values, boxes, power), rtol=3e-6, atol=1e-7
    )


@pytest.mark.parametrize("device", model_devices(), indirect=True)
@pytest.mark.parametrize("power", [3.0, np.inf])
@pytest.mark.parametrize("tokens", [(5, 8), (14, 3), (7, 9)])
def test_masked_pooling_is_the_references(device, power, tokens):
    rng = np.random.default_rng(tokens)
    values = rng.gamma(1.0, 1.0, (270, 7, 9)).astype(np.float32)
    boxes, masks = made_boxes(rng, 6, 7, 9), (rng.random((6, *tokens)) < 0.4).astype(np.uint8)
    masks[1] = 0
    wanted = reference_pool(values, boxes, power, masks)
    assert not wanted[1].any()
    assert np.abs(wanted - reference_pool(values, boxes, power)).max() > 0.05
    np.testing.assert_allclose(pool_boxes(device, values, boxes, power, masks), wanted, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("device", model_devices(orders=["shuffled"]), indirect=True)
def test_regions_of_many_maps_are_pooled_at_once(device):
    rng = np.random.default_rng(3)
    values = rng.gamma(1.0, 1.0, (3, 40, 5, 6)).astype(np.float32)
    pixels = made_boxes(rng, 7, 90, 70) * np.float32([1, 1, 1, 1])
    pixels[3] = [10, 10, 10.5, 40]  # narrower than a cell: widened
    images, sizes = np.array([0, 2, 1, 1, 0, 2, 2], np.int32), np.array([[70, 90], [300, 95], [71, 200]], np.int32)
    with contextlib.ExitStack() as stack:

        def kept(array):
            stack.callback(array.close)
            return array

        regions = RegionsOfMaps(*(kept(device.upload(each)) for each in (pixels, images, sizes)))
        pooled, maps = kept(device.upload(np.full((7, 45), 7, np.float32))), kept(device.upload(values))
        pooling = stack.enter_context(MapPooling(device, 3.0, 1.0, 0.08))
        pooling.pool(maps, regions, pooled, offset=3, norm=0.5)
        found = device.download(pooled)
        with pytest.raises(UsageError, match="do not fit"):
            pooling.pool(maps, regions, pooled, offset=6)
        # Only the device knows that there are three regions: the others stay as they were.
        device.fill(pooled, 0)
        counted = kept(device.upload(np.array([3], np.int32)))
        pooling.pool(maps, replace(regions, counted=counted), pooled, offset=3, norm=0.5)
        np.testing.assert_array_equal(
            device.download(pooled)[:, 3:43], np.where(np.arange(7)[:, None] < 3, found[:, 3:43], 0)
        )
    assert (found[:, :3] == 7).all()
    assert (found[:, 43:] == 7).all()
    for row, image in enumerate(images):
        cells = cells_from_pixels(
            pixels[row : row + 1], (5, 6), tuple(sizes[image].tolist()), DescriptorSettings(margin=0.08)
        )
        wanted = reference_pool(values[image], cells, 3.0)[0]
        np.testing.assert_allclose(found[row, 3:43], wanted / np.linalg.norm(wanted) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_no_regions_give_no_descriptors(device):
    assert pool_boxes(device, np.ones((4, 2, 2), np.float32), np.empty((0, 4), np.float32), 3.0).shape == (0, 4)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_many_maps_of_many_channels_fit_a_launch(device, monkeypatch):
    """Along x a launch may have 2^31 blocks, along y and z 65,535."""
    grids = []
    monkeypatch.setattr(
        type(device.kernels("pool")), "launch", lambda _, name, arguments, grid, *rest: grids.append(grid)
    )
    with contextlib.ExitStack() as stack:
        arrays = [device.empty((3000, 1280, 1, 2), np.float32), device.empty((5, 1280), np.float32)]
        arrays += [device.empty((5, 4), np.float32), device.empty((5,), np.int32), device.empty((3000, 2), np.int32)]
        for array in arrays:
            stack.callback(array.close)
        maps, pooled, *of_regions = arrays
        stack.enter_context(MapPooling(device, 3.0, 1.0)).pool(maps, RegionsOfMaps(*of_regions), pooled)
    assert max(grid[0] for grid in grids) == 3000 * 40
    assert all(side <= 65535 for grid in grids for side in grid[1:])
