"""Code books: training, codes, distances, and equality with nanopq."""

from __future__ import annotations

import nanopq
import numpy as np
import pytest

from edge_claid.codes import codebook_file
from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.opq import train_opq
from edge_claid.codes.pq import train_pq
from edge_claid.errors import GalleryError, UsageError
from edge_claid.ops.reference.scan import code_distances


def correlated(rows, width, seed=0):
    """Unit vectors of a falling spectrum along random axes, as descriptors are."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(width, width)))[0]
    values = (rng.normal(size=(rows, width)) * np.arange(1, width + 1) ** -0.7) @ axes
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


VALUES = correlated(3000, 32)


@pytest.fixture(scope="module", params=["pq", "opq"])
def book(request):
    if request.param == "pq":
        return train_pq(VALUES, 4, seed=1, iterations=8)
    return train_opq(VALUES, 4, iterations=4, seed=1, final_rounds=5)


def error(book, values=VALUES):
    return float(((values - book.decode(book.encode(values))) ** 2).sum() / (values**2).sum())


def nanopq_of(book):
    peer = nanopq.OPQ(M=book.subspaces, verbose=False)
    peer.pq.Ds, peer.pq.codewords = book.centroids.shape[2], book.centroids
    peer.R = np.eye(book.width, dtype=np.float32) if book.rotation is None else book.rotation
    return peer


def test_codes_and_distances_of_nanopq(book):
    """Codes are equal; distances up to rounding, because nanopq squares a norm and sums in numpy's order."""
    peer = nanopq_of(book)
    queries = correlated(20, 32, seed=5)
    codes = book.encode(VALUES)
    np.testing.assert_array_equal(codes, peer.encode(VALUES))
    assert len(np.unique(codes[:, 0])) > 200
    for query, table in zip(queries, book.tables(queries), strict=True):
        theirs = peer.dtable(query)
        np.testing.assert_allclose(table, theirs.dtable, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(code_distances(table, codes), theirs.adist(codes), rtol=1e-5)
    np.testing.assert_allclose(book.decode(codes), peer.decode(codes), atol=1e-6)


def test_table_entries_are_distances_to_the_decoded(book):
    queries = correlated(3, 32, seed=6)
    codes = book.encode(VALUES[:50])
    distances = ((queries[:, None] - book.decode(codes)[None]) ** 2).sum(axis=2)
    found = [code_distances(table, codes) for table in book.tables(queries)]
    np.testing.assert_allclose(found, distances, rtol=1e-4)


def test_rotation_is_orthogonal_and_lowers_the_error():
    plain, optimised = train_pq(VALUES, 4, seed=1), train_opq(VALUES, 4, seed=1)
    np.testing.assert_allclose(optimised.rotation @ optimised.rotation.T, np.eye(32), atol=1e-5)
    assert error(optimised) < 0.9 * error(plain)


def test_training_may_start_from_another_rotation():
    drawn = np.linalg.qr(np.random.default_rng(7).normal(size=(32, 32)))[0]
    unturned = train_opq(VALUES, 4, iterations=0, start=drawn)
    np.testing.assert_allclose(unturned.rotation, drawn, atol=1e-6)
    turned = train_opq(VALUES, 4, iterations=10, start=drawn)
    np.testing.assert_allclose(turned.rotation @ turned.rotation.T, np.eye(32), atol=1e-5)
    assert error(turned) < 0.95 * error(unturned)
    with pytest.raises(UsageError, match=r"start from is \(8, 8\).*32 dimensions"):
        train_opq(VALUES, 4, start=np.eye(8))


def test_error_is_at_most_that_of_nanopq():
    peer = nanopq.OPQ(M=4, verbose=False)
    peer.fit(VALUES, parametric_init=True, seed=1)
    reconstructed = peer.decode(peer.encode(VALUES))
    theirs = float(((VALUES - reconstructed) ** 2).sum() / (VALUES**2).sum())
    assert error(train_opq(VALUES, 4, seed=1)) <= theirs


def test_clusters_are_found():
    rng = np.random.default_rng(2)
    centres = rng.uniform(-1000, 1000, (64, 4))
    values = (centres[rng.integers(0, 64, 10_000)] + rng.uniform(-1, 1, (10_000, 4))).astype(np.float32)
    assert error(train_pq(values, 2, seed=3), values) < 1e-6


def test_training_is_repeatable():
    first, second = train_opq(VALUES, 8, iterations=2, seed=4), train_opq(VALUES, 8, iterations=2, seed=4)
    np.testing.assert_array_equal(first.centroids, second.centroids)
    assert not np.array_equal(first.centroids, train_opq(VALUES, 8, iterations=2, seed=5).centroids)


def test_few_different_rows_leave_no_codeword_undefined():
    book = train_opq(np.repeat(VALUES[:5], 60, axis=0), 4, iterations=2)
    assert error(book, VALUES[:5]) < 1e-6


@pytest.mark.parametrize("train", [train_pq, train_opq])
@pytest.mark.parametrize(
    ("values", "subspaces", "message"),
    [
        (VALUES[:255], 4, "at least 256 regions.*there are 255"),
        (np.where(np.arange(32) == 3, np.nan, VALUES), 4, "NaN"),
        (VALUES, 5, "5 subspaces do not divide 32"),
        (VALUES, 0, "0 subspaces"),
        (VALUES[0], 4, "descriptors are"),
    ],
)
def test_training_refuses(train, values, subspaces, message):
    with pytest.raises(UsageError, match=message):
        train(values, subspaces)


def test_use_refuses(book):
    with pytest.raises(UsageError, match="takes \\(N, 32\\)"):
        book.encode(VALUES[:, :16])
    with pytest.raises(UsageError, match="NaN"):
        book.tables(np.full((1, 32), np.inf, np.float32))
    with pytest.raises(UsageError, match="uint8 \\(N, 4\\)"):
        book.decode(np.zeros((2, 8), np.uint8))
    with pytest.raises(UsageError, match="float32"):
        CodeBook(None, book.centroids.astype(np.float64))
    with pytest.raises(UsageError, match="rotation"):
        CodeBook(np.eye(8, dtype=np.float32), book.centroids)
    with pytest.raises(UsageError, match="NaN"):
        CodeBook(None, book.centroids * np.float32(np.nan))


def test_file_round_trip(book):
    loaded = CodeBook.load(book.dump())
    np.testing.assert_array_equal(loaded.encode(VALUES), book.encode(VALUES))
    assert loaded.dump() == book.dump()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"centroids": np.zeros((4, 16, 8), np.float32)},
        {"centroids": np.zeros((4, 256, 8), np.float64)},
        {"centroids": np.zeros((4, 256, 8), np.float32), "rotation": np.zeros((4, 4), np.float32)},
        {"centroids": np.zeros((4, 256, 8), np.float32), "more": np.zeros(1, np.uint8)},
        {"centroids": np.full((4, 256, 8), np.nan, np.float32)},
    ],
)
def test_file_of_another_shape_is_refused(arrays):
    with pytest.raises(GalleryError):
        CodeBook.load(codebook_file.dump("code-book", 1, {}, arrays))


def test_file_of_another_version_is_refused(book):
    with pytest.raises(GalleryError, match="version 2"):
        CodeBook.load(codebook_file.dump("code-book", 2, {}, {"centroids": book.centroids}))
