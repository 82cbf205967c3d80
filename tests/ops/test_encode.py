"""The encode op: hand-computed values, and every kernel against the reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.ops.cpu import _encode
from edge_claid.ops.reference import encode as reference

ISAS = _encode.supported_isas()


def values_and_codewords(rows, subspaces, width):
    rng = np.random.default_rng([rows, subspaces, width])
    values = rng.normal(size=(rows, subspaces * width)).astype(np.float32)
    return values, rng.normal(size=(subspaces, width, 256)).astype(np.float32)


def test_tables_and_codes_by_hand():
    codewords = np.full((2, 1, 256), 100.0, np.float32)
    codewords[0, 0, [3, 9]], codewords[1, 0, 200] = [1.0, 4.0], -2.0
    values = np.array([[3.0, 0.0], [2.5, -3.0]], np.float32)
    tables = reference.lookup_tables(values, codewords)
    assert tables[0, 0, [3, 9]].tolist() == [4.0, 1.0]
    codes, distances = reference.nearest_codewords(values, codewords)
    assert codes.tolist() == [[9, 200], [3, 200]]  # 2.5 is as near to 1 as to 4: the lower codeword
    assert distances.tolist() == [[1.0, 4.0], [2.25, 1.0]]
    sums, counts = reference.codeword_sums(values, codes)
    assert sums[1, 200].tolist() == [-3.0]
    assert counts[1, 200] == 2
    assert sums[0, [3, 9], 0].tolist() == [2.5, 3.0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "subspaces", "width"), [(1, 1, 1), (7, 8, 48), (65, 4, 5), (600, 3, 16)])
def test_kernel_equals_reference(isa, rows, subspaces, width):
    values, codewords = values_and_codewords(rows, subspaces, width)
    tables = reference.lookup_tables(values, codewords)
    np.testing.assert_array_equal(_encode.lookup_tables(values, codewords, isa=isa), tables)
    codes, distances = reference.nearest_codewords(values, codewords)
    assert rows < 7 or len(np.unique(codes)) > 6
    for threads in (1, 3):
        found, nearest = _encode.nearest_codewords(values, codewords, threads=threads, isa=isa)
        np.testing.assert_array_equal(found, codes)
        np.testing.assert_array_equal(nearest, distances)
    for a, b in zip(_encode.codeword_sums(values, codes), reference.codeword_sums(values, codes), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", [1, 16, 100, 384])
def test_rotation_equals_reference(isa, width):
    rng = np.random.default_rng(width)
    values = rng.normal(size=(5, width)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0].astype(np.float32)
    rotated = reference.rotate(values, rotation)
    np.testing.assert_array_equal(_encode.rotate(values, rotation, isa=isa), rotated)
    np.testing.assert_allclose(rotated, values @ rotation, atol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "width", "columns"), [(1, 1, 1), (9, 33, 16), (515, 100, 71), (6, 40, 256)])
def test_projection_equals_reference(isa, rows, width, columns):
    rng = np.random.default_rng(columns)
    values, mean = rng.normal(size=(rows, width)).astype(np.float32), rng.normal(size=width).astype(np.float32)
    values[-1] = mean
    matrix = rng.normal(size=(width, columns)).astype(np.float32)
    projected = reference.project(values, mean, matrix)
    for threads in (1, 3):
        found = _encode.project(values, mean, matrix, threads=threads, isa=isa)
        np.testing.assert_array_equal(found, projected)
    plain = (values.astype(np.float64) - mean) @ matrix
    np.testing.assert_allclose(projected[:-1], plain[:-1] / np.linalg.norm(plain[:-1], axis=1)[:, None], atol=1e-5)
    assert not projected[-1].any()


@pytest.mark.parametrize("isa", ISAS)
def test_of_equally_near_codewords_the_lowest(isa):
    codewords = np.ones((1, 2, 256), np.float32)
    codewords[0, :, [40, 41, 90, 255]] = 0.0
    assert _encode.nearest_codewords(np.zeros((3, 2), np.float32), codewords, isa=isa)[0].tolist() == [[40]] * 3


def test_wrong_shapes_are_refused():
    values, codewords = values_and_codewords(4, 2, 3)
    with pytest.raises(ValueError, match="dimensions"):
        _encode.lookup_tables(values[:, :4].copy(), codewords)
    with pytest.raises(ValueError, match="rotation"):
        _encode.rotate(values, np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match="mean and matrix"):
        _encode.project(values, values[0, :3].copy(), np.eye(6, dtype=np.float32))
    with pytest.raises(ValueError, match="abacus"):
        _encode.rotate(values, np.eye(6, dtype=np.float32), isa="abacus")
