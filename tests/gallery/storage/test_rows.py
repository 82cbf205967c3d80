"""Records to bytes and back, and bytes from anybody."""

from __future__ import annotations

import contextlib
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import GRID, described

from edge_claid.errors import GalleryError
from edge_claid.gallery.storage.rows import (
    box_bytes,
    half_bytes,
    matrix_from_bytes,
    name_bytes,
    name_from_bytes,
    packed_masks,
    regions_from_bytes,
    tree_bytes,
)


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_regions_come_back_bit_for_bit(seed: int, count: int) -> None:
    regions = described(seed, count).regions
    back = regions_from_bytes(box_bytes(regions), tree_bytes(regions), packed_masks(regions), GRID, (64, 48))
    for name in ("boxes", "parents", "depths", "areas", "energy", "connectivity", "masks"):
        before, after = getattr(regions, name), getattr(back, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


@given(st.binary(max_size=64), st.binary(max_size=64), st.binary(max_size=64), st.tuples(st.integers(), st.integers()))
def test_any_bytes_are_regions_or_refused(boxes: bytes, tree: bytes, packed: bytes, grid: tuple[int, int]) -> None:
    with contextlib.suppress(GalleryError):
        regions = regions_from_bytes(boxes, tree, packed, grid, (64, 48))
        assert np.isfinite(regions.boxes).all()


@given(st.data())
def test_changed_bytes_are_regions_or_refused(data: st.DataObject) -> None:
    regions = described(1, 3).regions
    parts = [bytearray(part) for part in (box_bytes(regions), tree_bytes(regions), packed_masks(regions))]
    for part in parts:
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(GalleryError):
        back = regions_from_bytes(*map(bytes, parts), GRID, (64, 48))
        assert back.parents.max() < 3
        assert back.masks.shape == regions.masks.shape


def test_masks_that_unfold_without_end_are_refused() -> None:
    regions = described(1, 3).regions
    bomb = zlib.compress(bytes(10**8))
    with pytest.raises(GalleryError, match="another size"):
        regions_from_bytes(box_bytes(regions), tree_bytes(regions), bomb, GRID, (64, 48))


@given(st.integers(1, 20), st.integers(1, 30))
def test_descriptors_come_back_as_halves(rows: int, width: int) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)
    np.testing.assert_array_equal(matrix_from_bytes(half_bytes(values), rows, "<f2"), values.astype(np.float16))


@pytest.mark.parametrize(("content", "rows"), [(b"", 1), (b"123", 1), (b"1234", 3), (b"1234", 0), (b"1234", -2)])
def test_what_is_no_matrix(content: bytes, rows: int) -> None:
    with pytest.raises(GalleryError):
        matrix_from_bytes(content, rows, "<f2")


@given(st.binary(min_size=1).filter(lambda b: b"\0" not in b))
def test_any_file_name_survives(name: bytes) -> None:
    assert name_bytes(name_from_bytes(name)) == name
