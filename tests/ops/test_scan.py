"""The scan op: the plain reference by hand, and every kernel against the reference, bit for bit."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from scan_cases import assert_same_search, gallery, query_tables

from edge_claid.ops.cpu import _scan
from edge_claid.ops.reference.scan import CodeScan as ReferenceScan
from edge_claid.ops.reference.scan import code_distances

ISAS = _scan.supported_isas()


def both(isa, subspaces, codes, images):
    scans = ReferenceScan(subspaces), _scan.CodeScan(subspaces, isa)
    for scan in scans:
        scan.append(codes, images)
    return scans


@pytest.mark.parametrize("make", [ReferenceScan, *(lambda m, isa=isa: _scan.CodeScan(m, isa) for isa in ISAS)])
def test_best_images_by_hand(make):
    scan = make(2)
    scan.append(np.array([[0, 0], [1, 1], [2, 0], [1, 1]], np.uint8), np.array([5, 5, 3, 7], np.int32))
    table = np.full((1, 2, 256), 9.0, np.float32)
    table[0, 0, :3], table[0, 1, :2] = [4, 1, 2], [0.5, 1]
    images, distances, regions = scan.search(table, 4)
    assert images.tolist() == [[5, 7, 3, -1]]
    assert distances.tolist() == [[2.0, 2.0, 2.5, np.inf]]
    assert regions.tolist() == [[1, 3, 2, -1]]
    assert scan.remove(np.array([5], np.int32)) == 2
    assert scan.search(table, 2)[0].tolist() == [[7, 3]]
    assert scan.search(table, 2, np.array([1, 1, 1, 1], bool))[0].tolist() == [[3, -1]]
    assert scan.region_distances(table[0], np.array([2, 0]), np.array([4, 1])).tolist() == [2.5, 2.0, 4.5]
    assert (len(scan), scan.live_regions) == (4, 2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("subspaces", [1, 3, 4, 8, 16, 32])
@pytest.mark.parametrize(("regions", "images"), [(0, 1), (1, 1), (63, 9), (64, 9), (1000, 40), (30_011, 1000)])
def test_kernel_equals_reference(isa, subspaces, regions, images):
    rng = np.random.default_rng([subspaces, regions])
    reference, scan = both(isa, subspaces, *gallery(rng, subspaces, regions, images))
    tables = query_tables(rng, 3, subspaces)
    for k in (1, 10, 100):
        _, distances, _ = assert_same_search(reference, scan, tables, k)
    if images > 100 and subspaces > 1:
        assert len(np.unique(distances[0])) > 50
    starts = np.array([0, regions // 3, regions // 2], np.int64)
    stops = np.array([regions, regions // 3, regions], np.int64)
    np.testing.assert_array_equal(
        reference.region_distances(tables[0], starts, stops), scan.region_distances(tables[0], starts, stops)
    )


@pytest.mark.parametrize("isa", ISAS)
def test_all_images(isa):
    rng = np.random.default_rng(4)
    reference, scan = both(isa, 8, *gallery(rng, 8, 20_000, 700))
    images, _, _ = assert_same_search(reference, scan, query_tables(rng, 2, 8), 800)
    assert (images[0] >= 0).sum() == 700


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_filters_and_tombstones(isa, share):
    rng = np.random.default_rng(5)
    codes, images = gallery(rng, 8, 50_000, 2000)
    reference, scan = both(isa, 8, codes, images)
    removed = rng.choice(2000, 700, replace=False).astype(np.int32)
    assert reference.remove(removed) == scan.remove(removed) > 0
    assert reference.remove(removed) == scan.remove(removed) == 0
    allowed = rng.random(1500) < share
    found, _, _ = assert_same_search(reference, scan, query_tables(rng, 5, 8), 50, allowed)
    assert set(found[found >= 0]) <= set(np.flatnonzero(allowed)) - set(removed)
    assert_same_search(reference, scan, query_tables(rng, 5, 8), 50)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_do_not_change_the_result(isa, threads):
    rng = np.random.default_rng(6)
    reference, scan = both(isa, 8, *gallery(rng, 8, 150_000, 5000))
    for queries in (1, 5):
        assert_same_search(reference, scan, query_tables(rng, queries, 8), 100, None, threads)


@pytest.mark.parametrize("isa", ISAS)
def test_appending_in_pieces(isa):
    rng = np.random.default_rng(7)
    codes, images = gallery(rng, 4, 9000, 300)
    images = rng.permutation(images).astype(np.int32)  # an image's regions may lie apart
    reference, scan = ReferenceScan(4), _scan.CodeScan(4, isa)
    for piece in np.array_split(np.arange(9000), [1, 5, 64, 100, 128, 129, 4000, 4001]):
        for each in (reference, scan):
            each.append(codes[piece], images[piece])
        assert_same_search(reference, scan, query_tables(rng, 2, 4), 20)
    for each in (reference, scan):
        each.remove(np.array([3, 8], np.int32))
        each.append(codes[:50], np.full(50, 8, np.int32))
    found, _, _ = assert_same_search(reference, scan, query_tables(rng, 1, 4), 300)
    assert 8 in found
    assert 3 not in found


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", ["negative", "huge", "tiny", "flat", "one far", "duplicates"])
def test_tables_that_strain_the_bound(isa, shape):
    rng = np.random.default_rng(8)
    codes, images = gallery(rng, 8, 40_000, 4000)
    tables = query_tables(rng, 2, 8)
    if shape == "negative":
        tables = -tables - 3
    elif shape == "huge":
        tables *= np.float32(1e37)
    elif shape == "tiny":
        tables *= np.float32(1e-42)
    elif shape == "flat":
        tables[:] = 0.1
    elif shape == "one far":
        tables[:, 3] += 1e6 * rng.random((2, 256)).astype(np.float32)
    else:
        codes[rng.integers(0, len(codes), 2000)] = codes[17]
        tables[:, np.arange(8), codes[17]] = 0.01
    reference, scan = both(isa, 8, codes, images)
    assert_same_search(reference, scan, tables, 100)


@pytest.mark.parametrize("isa", ISAS)
def test_every_threshold_keeps_its_own_region(isa):
    """Many k on one gallery: each makes another region the last one, the one the bound could lose."""
    rng = np.random.default_rng(9)
    codes = rng.integers(0, 256, (20_000, 16), dtype=np.uint8)
    reference, scan = both(isa, 16, codes, np.arange(20_000, dtype=np.int32))
    tables = query_tables(rng, 1, 16)
    for k in range(1, 200, 3):
        assert_same_search(reference, scan, tables, k)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("subspaces", [2, 8, 32])
def test_distances_on_the_very_threshold(isa, subspaces):
    """Tables on a grid of 254 steps to the threshold, so that rounding down leaves the bound no slack; later rows, of
    lower image, tie with earlier ones or differ in the last bit."""
    rng = np.random.default_rng(subspaces)
    rows = 9000
    distinct = 0
    for trial in range(40):
        steps = np.where(rng.random(rows) < 0.03, 254, rng.integers(256, 300, rows))
        codes = rng.multinomial(steps, np.full(subspaces, 1 / subspaces)).astype(np.uint8)
        offsets = rng.normal(size=(subspaces, 1)) * 10.0 ** (trial % 8)  # the larger, the coarser float32 sums are
        tables = (offsets + rng.uniform(1e-3, 1) * np.arange(256)).astype(np.float32)[None]
        reference, scan = both(isa, subspaces, codes, np.arange(rows, dtype=np.int32)[::-1].copy())
        for k in (1, 20):
            _, distances, _ = assert_same_search(reference, scan, tables, k)
        distinct += len(np.unique(distances))
    assert distinct > 30


def group_members(groups, rng):
    """A codeword of each of these groups: numbers of one group differ in bits 4 and 5."""
    return (groups & 15 | groups >> 4 << 6 | rng.integers(0, 4, groups.shape) << 4).astype(np.uint8)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("subspaces", [8, 16])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.3, 3.0])
def test_codewords_of_a_group(isa, subspaces, spread):
    """From groups whose codewords are equal, where the pre-scan by group decides all, to such that it tells nothing."""
    rng = np.random.default_rng([subspaces, int(100 * spread)])
    codes = group_members(rng.integers(0, 64, (60_000, subspaces)), rng)
    reference, scan = both(isa, subspaces, codes, np.sort(rng.integers(0, 3000, 60_000)).astype(np.int32))
    number = np.arange(256)
    by_group = rng.gamma(2.0, 0.3, (5, subspaces, 64))[:, :, number & 15 | number >> 6 << 4]
    tables = (by_group + spread * rng.random((5, subspaces, 256))).astype(np.float32)
    for k in (1, 30):
        assert_same_search(reference, scan, tables, k)


@pytest.mark.parametrize("isa", ISAS)
def test_groups_on_the_very_threshold(isa):
    """As test_distances_on_the_very_threshold, with equal entries inside a group: its bound has no slack either."""
    rng = np.random.default_rng(12)
    rows, subspaces, number = 9000, 16, np.arange(256)
    for trial in range(20):
        steps = np.where(rng.random(rows) < 0.03, 254, rng.integers(256, 300, rows))
        codes = group_members(np.minimum(rng.multinomial(steps, np.full(subspaces, 1 / subspaces)), 63), rng)
        offsets = rng.normal(size=(subspaces, 1)) * 10.0 ** (trial % 8)
        grid = rng.uniform(1e-3, 1) * (number & 15 | number >> 6 << 4)
        reference, scan = both(isa, subspaces, codes, np.arange(rows, dtype=np.int32)[::-1].copy())
        for k in (1, 20):
            assert_same_search(reference, scan, (offsets + grid).astype(np.float32)[None], k)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_threshold_guessed_too_low_loses_nothing(isa, threads):
    """Thirty of the hundred best come first, so that it seems as if there were many of them; the rest come later."""
    rng = np.random.default_rng(17)
    codes, tables = rng.integers(0, 256, (150_000, 8), dtype=np.uint8), rng.random((2, 8, 256), dtype=np.float32)
    ranked = np.argsort(code_distances(tables[0], codes), kind="stable")
    later = rng.permutation(ranked[30:])
    scan = _scan.CodeScan(8, isa)
    codes = codes[np.concatenate([ranked[:30], later])]
    scan.append(codes, np.arange(len(codes), dtype=np.int32))
    for table, images, distances, _ in zip(tables, *scan.search(tables, 100, threads=threads), strict=True):
        exact = code_distances(table, codes)
        order = np.lexsort((np.arange(len(exact)), exact))[:100]
        np.testing.assert_array_equal(images, order)
        np.testing.assert_array_equal(distances, exact[order])


def test_wrong_input_is_refused():
    scan = _scan.CodeScan(8)
    codes, images = np.zeros((3, 8), np.uint8), np.zeros(3, np.int32)
    with pytest.raises(ValueError, match="negative"):
        scan.append(codes, images - 1)
    with pytest.raises(ValueError, match="subspaces"):
        scan.append(codes[:, :4].copy(), images)
    with pytest.raises(ValueError, match="subspaces"):
        scan.append(codes, images[:2])
    scan.append(codes, images)
    with pytest.raises(ValueError, match="NaN"):
        scan.search(np.full((1, 8, 256), np.nan, np.float32), 1)
    with pytest.raises(ValueError, match="width"):
        scan.search(np.zeros((1, 4, 256), np.float32), 1)
    with pytest.raises(ValueError, match="outside"):
        scan.region_distances(np.zeros((8, 256), np.float32), np.array([0]), np.array([4]))
    with pytest.raises(ValueError, match="abacus"):
        _scan.CodeScan(8, "abacus")
    assert len(scan) == 3


def test_searches_beside_appends():
    rng = np.random.default_rng(10)
    codes, images = gallery(rng, 8, 60_000, 2000)
    scan = _scan.CodeScan(8)
    tables = query_tables(rng, 2, 8)
    sizes = []

    def keep_searching():
        while len(scan) < len(codes):
            found, _, regions = scan.search(tables, 10)
            sizes.append(int(regions.max()))
            assert (images[regions[regions >= 0]] == found[regions >= 0]).all()

    searcher = threading.Thread(target=keep_searching)
    searcher.start()
    for start in range(0, len(codes), 500):
        scan.append(codes[start : start + 500], images[start : start + 500])
    searcher.join()
    reference = ReferenceScan(8)
    reference.append(codes, images)
    assert_same_search(reference, scan, tables, 10)


def test_memory_a_region():
    rng = np.random.default_rng(11)
    scan = _scan.CodeScan(8)
    for _ in range(10):
        start = len(scan) // 30
        images = np.repeat(np.arange(start, start + 1000, dtype=np.int32), 30)
        scan.append(rng.integers(0, 256, (30_000, 8), dtype=np.uint8), images)
    assert 8 < scan.memory_bytes / len(scan) < 8 + 3
