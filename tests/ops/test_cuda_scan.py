"""The shipped scan kernels on the model of a GPU, and on a real one by ``-m gpu``: the reference's answers."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
from cuda_devices import model_devices
from scan_cases import assert_same_search, gallery, query_tables

from edge_claid.errors import MachineError, UsageError
from edge_claid.ops.cuda import scan_op
from edge_claid.ops.reference.scan import CodeScan as ReferenceScan


@pytest.fixture(autouse=True)
def small_samples(monkeypatch):
    """So that galleries of tests are large enough for the pass that looks for a threshold."""
    monkeypatch.setattr(scan_op, "SAMPLED_CHUNKS", 2)


@contextlib.contextmanager
def both(device, subspaces, codes=None, images=None):
    with scan_op.CodeScan(device, subspaces) as scan:
        reference = ReferenceScan(subspaces)
        if codes is not None:
            reference.append(codes, images)
            scan.append(codes, images)
        yield reference, scan


@pytest.mark.parametrize("device", model_devices(), indirect=True)
@pytest.mark.parametrize("subspaces", [4, 8, 16, 32])
@pytest.mark.parametrize(("regions", "images"), [(1, 1), (1023, 40), (5000, 300)])
def test_kernel_equals_reference(device, subspaces, regions, images):
    rng = np.random.default_rng([subspaces, regions])
    with both(device, subspaces, *gallery(rng, subspaces, regions, images)) as (reference, scan):
        for queries, k in ((1, 1), (1, 30), (6, 30)):
            assert_same_search(reference, scan, query_tables(rng, queries, subspaces), k)
        starts = np.array([0, regions // 3, regions // 2], np.int64)
        stops = np.array([regions, regions // 3, regions], np.int64)
        table = query_tables(rng, 1, subspaces)[0]
        np.testing.assert_array_equal(
            reference.region_distances(table, starts, stops), scan.region_distances(table, starts, stops)
        )


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_the_bound_discards_most_rows(device):
    """The pre-scan is what makes it fast: few rows may touch an image, or the bound is no bound."""
    rng = np.random.default_rng(3)
    with both(device, 8, *gallery(rng, 8, 20_000, 20_000)) as (reference, scan):
        touched = []
        device_download = device.download

        def launch(kernels, name, arguments, *rest):
            result = original(kernels, name, arguments, *rest)
            if name.startswith("scan_codes"):
                touched.append(int(device_download(scan._room["counts"])[0]))
            return result

        kind = type(scan._kernels)
        original = kind.launch
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "launch", launch)
            assert_same_search(reference, scan, query_tables(rng, 1, 8), 5)
    assert len(touched) == 2
    assert 5 <= touched[1] < 400


@pytest.mark.parametrize("device", model_devices(orders=["shuffled"]), indirect=True)
def test_passes_over_ever_more_rows(device, monkeypatch):
    """Each pass bounds the next: a gallery of a hundred million must not leave millions of images to be sorted."""
    monkeypatch.setattr(scan_op, "SAMPLED_CHUNKS", 1)
    monkeypatch.setattr(scan_op, "GROWTH", 3)
    rng = np.random.default_rng(9)
    with both(device, 8, *gallery(rng, 8, 12_000, 4_000)) as (reference, scan):
        steps = scan._steps(5)
        assert steps[0] == 12
        assert steps[-1] == 1
        assert max(a / b for a, b in itertools.pairwise(steps)) <= 3.5
        for queries in (1, 5):
            assert_same_search(reference, scan, query_tables(rng, queries, 8), 5)
        if device.is_model:
            assert device.launched.count("select_images") == 2 * len(steps)


@pytest.mark.parametrize("device", model_devices(orders=["descending"]), indirect=True)
def test_more_images_than_registers_hold(device, monkeypatch):
    monkeypatch.setattr(scan_op, "SAMPLED_CHUNKS", 100)
    rng = np.random.default_rng(10)
    codes = rng.integers(0, 4, (9_500, 4), dtype=np.uint8)  # many at the same distance
    images = rng.permutation(9_500).astype(np.int32)
    with both(device, 4, codes, images) as (reference, scan):
        for k in (1, 700):
            assert_same_search(reference, scan, query_tables(rng, 1, 4), k)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_a_search_that_fails_leaves_nothing_for_the_next(device, monkeypatch):
    rng = np.random.default_rng(11)
    with both(device, 8, *gallery(rng, 8, 9_000, 1_200)) as (reference, scan):
        kind = type(scan._kernels)
        original = kind.launch

        def launch(kernels, name, *rest):
            original(kernels, name, *rest)
            if name == "select_images":  # it has set a threshold for the next pass
                raise MachineError("the GPU failed")

        assert_same_search(reference, scan, query_tables(rng, 2, 8), 7)
        with monkeypatch.context() as patch:
            patch.setattr(kind, "launch", launch)
            with pytest.raises(MachineError, match="the GPU failed"):
                scan.search(query_tables(rng, 2, 8), 7)
        assert_same_search(reference, scan, query_tables(rng, 2, 8), 7)


@pytest.mark.parametrize("device", model_devices(orders=["shuffled"]), indirect=True)
def test_all_images_are_sorted_on_the_host(device):
    rng = np.random.default_rng(4)
    with both(device, 8, *gallery(rng, 8, 9000, 2500)) as (reference, scan):
        images, _, _ = assert_same_search(reference, scan, query_tables(rng, 2, 8), 2600)
        assert (images[0] >= 0).sum() > 2048
        assert_same_search(reference, scan, query_tables(rng, 2, 8), 7)


@pytest.mark.parametrize("device", model_devices(), indirect=True)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3])
def test_filters_and_tombstones(device, share):
    rng = np.random.default_rng(5)
    codes, images = gallery(rng, 8, 6000, 500)
    with both(device, 8, codes, images) as (reference, scan):
        removed = rng.choice(500, 150, replace=False).astype(np.int32)
        assert reference.remove(removed) == scan.remove(removed) > 0
        assert reference.remove(removed) == scan.remove(removed) == 0
        assert scan.live_regions == reference.live_regions
        allowed = rng.random(400) < share
        assert_same_search(reference, scan, query_tables(rng, 5, 8), 50, allowed)
        assert_same_search(reference, scan, query_tables(rng, 1, 8), 50)


@pytest.mark.parametrize("device", model_devices(orders=["descending"]), indirect=True)
def test_appending_in_pieces_and_over_segments(device, monkeypatch):
    monkeypatch.setattr(scan_op, "SEGMENT", 1 << 20)
    rng = np.random.default_rng(7)
    codes, images = gallery(rng, 4, 9000, 300)
    images = rng.permutation(images).astype(np.int32)  # an image's regions may lie apart
    with both(device, 4) as (reference, scan):
        assert_same_search(reference, scan, query_tables(rng, 1, 4), 3)
        for piece in np.array_split(np.arange(9000), [1, 5, 64, 1024, 1025, 4001]):
            for each in (reference, scan):
                each.append(codes[piece], images[piece])
            assert_same_search(reference, scan, query_tables(rng, 2, 4), 20)
        for each in (reference, scan):
            each.remove(np.array([3, 8], np.int32))
            each.append(codes[:50], np.full(50, 8, np.int32))
        found, _, _ = assert_same_search(reference, scan, query_tables(rng, 1, 4), 300)
        assert 8 in found
        assert 3 not in found


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_rows_beyond_the_first_segment(device):
    rng = np.random.default_rng(8)
    regions = scan_op.SEGMENT + 3000
    codes = rng.integers(0, 256, (regions, 4), dtype=np.uint8)
    images = (np.arange(regions) // 300).astype(np.int32)
    if device.is_model:  # a gallery of a million rows takes the model seconds: sample every chunk sparsely
        pytest.MonkeyPatch().setattr(scan_op, "BLOCKS_PER_PROCESSOR", 1)
    with both(device, 4, codes, images) as (reference, scan):
        table = query_tables(rng, 1, 4)[0]
        ends = np.array([regions - 10], np.int64), np.array([regions], np.int64)
        np.testing.assert_array_equal(reference.region_distances(table, *ends), scan.region_distances(table, *ends))
        last = np.array([images[-1]], np.int32)
        if not device.is_model:
            assert_same_search(reference, scan, query_tables(rng, 2, 4), 10)
            assert reference.remove(last) == scan.remove(last)
            assert_same_search(reference, scan, query_tables(rng, 2, 4), 10)


@pytest.mark.parametrize("device", model_devices(orders=["shuffled"]), indirect=True)
@pytest.mark.parametrize("shape", ["negative", "huge", "tiny", "flat", "one far"])
def test_tables_that_strain_the_bound(device, shape):
    rng = np.random.default_rng(8)
    with both(device, 8, *gallery(rng, 8, 6000, 1000)) as (reference, scan):
        tables = query_tables(rng, 2, 8)
        if shape == "negative":
            tables = -tables - 3
        elif shape == "huge":
            tables *= np.float32(1e37)
        elif shape == "tiny":
            tables *= np.float32(1e-42)
        elif shape == "flat":
            tables[:] = 0.1
        else:
            tables[:, 3] += 1e6 * rng.random((2, 256)).astype(np.float32)
        assert_same_search(reference, scan, tables, 25)
        assert_same_search(reference, scan, tables[:1], 25)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_wrong_input_is_refused(device):
    codes, images = np.zeros((3, 8), np.uint8), np.zeros(3, np.int32)
    with pytest.raises(UsageError, match="4, 8, 16 or 32"):
        scan_op.CodeScan(device, 5)
    with scan_op.CodeScan(device, 8) as scan:
        with pytest.raises(ValueError, match="negative"):
            scan.append(codes, images - 1)
        with pytest.raises(ValueError, match="subspaces"):
            scan.append(codes[:, :4], images)
        scan.append(codes, images)
        with pytest.raises(ValueError, match="NaN"):
            scan.search(np.full((1, 8, 256), np.nan, np.float32), 1)
        with pytest.raises(ValueError, match="width"):
            scan.search(np.zeros((1, 4, 256), np.float32), 1)
        with pytest.raises(ValueError, match="outside"):
            scan.region_distances(np.zeros((8, 256), np.float32), np.array([0]), np.array([4]))
