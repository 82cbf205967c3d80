"""Made-up galleries and look-up tables for the scans, and what it means that two scans answer alike."""

from __future__ import annotations

import numpy as np


def gallery(rng, subspaces, regions, images):
    """Codes with near and equal neighbours, and images of unequal size in order."""
    codes = rng.integers(0, 256, (regions, subspaces), dtype=np.uint8)
    twins = rng.integers(0, regions, regions // 3)
    codes[rng.integers(0, regions, len(twins))] = codes[twins]
    return codes, np.sort(rng.integers(0, images, regions)).astype(np.int32)


def query_tables(rng, queries, subspaces):
    return rng.gamma(4.0, 0.1, (queries, subspaces, 256)).astype(np.float32)


def assert_same_search(reference, scan, tables, k, allowed=None, threads=1):
    expected = reference.search(tables, k, allowed)
    found = scan.search(tables, k, allowed, threads)
    for name, a, b in zip(("images", "distances", "regions"), expected, found, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype
    return expected
