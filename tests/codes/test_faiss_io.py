"""Code books and codes go to faiss and come back as they were; both answer a query alike."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.faiss_io import codebook_from_faiss, faiss_from_codebook
from edge_claid.codes.opq import train_opq
from edge_claid.codes.pq import train_pq
from edge_claid.errors import MachineError, UsageError
from edge_claid.ops.cpu import _scan

faiss = pytest.importorskip("faiss", reason="faiss is an optional peer")

VALUES = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)


@pytest.fixture(params=["pq", "opq"])
def book(request):
    return train_pq(VALUES, 8, iterations=3) if request.param == "pq" else train_opq(VALUES, 8, 2, final_rounds=3)


def test_round_trip(book, tmp_path):
    codes = book.encode(VALUES)
    index = faiss_from_codebook(book, codes)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    returned, returned_codes = codebook_from_faiss(faiss.read_index(str(tmp_path / "index.faiss")))
    np.testing.assert_array_equal(returned.centroids, book.centroids)
    np.testing.assert_array_equal(returned_codes, codes)
    assert (returned.rotation is None) == (book.rotation is None)
    if book.rotation is not None:
        np.testing.assert_array_equal(returned.rotation, book.rotation)


def test_same_codes_and_neighbours(book):
    codes = book.encode(VALUES)
    index = faiss_from_codebook(book)
    index.add(VALUES)
    _, theirs = codebook_from_faiss(index)
    np.testing.assert_array_equal(theirs, codes)
    scan = _scan.CodeScan(8)
    scan.append(codes, np.arange(len(codes), dtype=np.int32))
    images, distances, _ = scan.search(book.tables(QUERIES), 20)
    their_distances, their_images = index.search(QUERIES, 20)
    np.testing.assert_allclose(distances, their_distances, rtol=1e-5)
    assert (np.sort(images) == np.sort(their_images)).all(axis=1).mean() >= 0.8  # a tie at the end may fall either way


def test_index_trained_by_faiss():
    index = faiss.index_factory(32, "OPQ4,PQ4x8")
    index.train(VALUES)
    index.add(VALUES)
    book, codes = codebook_from_faiss(index)
    assert isinstance(book, CodeBook)
    np.testing.assert_array_equal(book.encode(VALUES), codes)


@pytest.mark.parametrize(
    ("factory", "message"),
    [("Flat", "IndexFlat"), ("PQ4x8", "trained"), ("PQ4x4", "4 bits"), ("PCA16,PQ4x8", "rotation")],
)
def test_other_indexes_are_refused(factory, message):
    index = faiss.index_factory(32, factory)
    if factory != "PQ4x8":
        index.train(VALUES)
    with pytest.raises(UsageError, match=message):
        codebook_from_faiss(index)


def test_wrong_codes_are_refused(book):
    with pytest.raises(UsageError, match="uint8"):
        faiss_from_codebook(book, np.zeros((3, 4), np.uint8))


def test_without_faiss(book, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MachineError, match="pip install faiss-cpu"):
        faiss_from_codebook(book)
