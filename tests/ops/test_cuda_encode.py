"""The shipped coding kernels on the model of a GPU, and on a real one by ``-m gpu``: the CPU's codes to the bit."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from cuda_devices import model_devices

from edge_claid.errors import UsageError
from edge_claid.ops.cpu import _encode
from edge_claid.ops.cuda.encode_op import CudaCoder


def made_space(rng, width, dimensions, subspaces):
    mean = rng.standard_normal(width).astype(np.float32)
    matrix = rng.standard_normal((width, dimensions)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
    centroids = rng.standard_normal((subspaces, 256, dimensions // subspaces)).astype(np.float32)
    centroids[:, 100] = centroids[:, 7]  # equals: the lowest wins
    return mean, matrix, rotation, centroids


def projected_by_hand(values, mean, matrix):
    """Sums in ascending order, each product and each sum rounded to float32."""
    sums = np.zeros((len(values), matrix.shape[1]), np.float32)
    for d in range(len(mean)):
        sums += (values[:, d] - mean[d])[:, None] * matrix[d]
    squares = np.zeros(len(values), np.float32)
    for column in sums.T:
        squares += column * column
    return sums / np.maximum(np.sqrt(squares), np.float32(1e-12))[:, None]


@pytest.mark.parametrize("device", model_devices(), indirect=True)
@pytest.mark.parametrize(
    ("rows", "width", "dimensions", "subspaces"), [(1, 40, 32, 4), (7, 100, 64, 16), (9, 33, 24, 8)]
)
@pytest.mark.parametrize("rotated", [True, False])
def test_codes_and_tables_are_the_cpus(device, rows, width, dimensions, subspaces, rotated):
    rng = np.random.default_rng([rows, width])
    mean, matrix, rotation, centroids = made_space(rng, width, dimensions, subspaces)
    values = rng.standard_normal((rows, width)).astype(np.float32)
    values[0] = mean  # projects to zero, which has no direction
    given = rotation if rotated else None
    with contextlib.ExitStack() as stack:
        coder = stack.enter_context(CudaCoder(device, mean, matrix, given, centroids))
        uploaded = device.upload(values)
        projected = device.empty((rows, dimensions), np.float32)
        codes = device.empty((rows, subspaces), np.uint8)
        tables = device.empty((rows, subspaces, 256), np.float32)
        for array in (uploaded, projected, codes, tables):
            stack.callback(array.close)
        coder.project(uploaded, projected)
        coder.encode(projected, codes)
        coder.tables(projected, tables)
        found = [device.download(array) for array in (projected, codes, tables)]
    wanted = projected_by_hand(values, mean, matrix)
    if rotated:
        wanted = _encode.rotate(wanted, rotation)
    codewords = np.ascontiguousarray(centroids.transpose(0, 2, 1))
    np.testing.assert_array_equal(found[0], wanted)
    np.testing.assert_array_equal(found[1], _encode.nearest_codewords(wanted, codewords)[0])
    np.testing.assert_array_equal(found[2], _encode.lookup_tables(wanted, codewords))
    assert not (found[1] == 100).any()


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_shapes_that_do_not_fit_are_refused(device):
    rng = np.random.default_rng(1)
    mean, matrix, rotation, centroids = made_space(rng, 40, 32, 4)
    with pytest.raises(UsageError, match="do not fit each other"):
        CudaCoder(device, mean[:3], matrix, rotation, centroids)
    with pytest.raises(UsageError, match="rotation"):
        CudaCoder(device, mean, matrix, rotation[:3], centroids)
    with (
        CudaCoder(device, mean, matrix, rotation, centroids) as coder,
        contextlib.closing(device.empty((2, 41), np.float32)) as values,
        contextlib.closing(device.empty((2, 32), np.float32)) as to,
    ):
        with pytest.raises(UsageError, match="@"):
            coder.project(values, to)
        with pytest.raises(UsageError, match="width"):
            coder.encode(values, values)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_no_rows_start_nothing(device):
    """A launch of no blocks is an error of the driver's."""
    rng = np.random.default_rng(1)
    with (
        CudaCoder(device, *made_space(rng, 40, 32, 4)) as coder,
        contextlib.closing(device.empty((0, 40), np.float32)) as values,
        contextlib.closing(device.empty((0, 32), np.float32)) as to,
    ):
        coder.project(values, to)
        coder.encode(to, values)
        coder.tables(to, values)
        assert device.download(to).shape == (0, 32)
    if device.is_model:
        assert not device.launched
