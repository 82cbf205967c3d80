"""Code books and codes from and to faiss indexes. faiss is optional: only these functions need it."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import numpy as np

from edge_claid.codes.codebook import CODEWORDS, CodeBook
from edge_claid.codes.space import CodeSpace
from edge_claid.errors import MachineError, StorageError, UsageError


def codebook_from_faiss(index: Any) -> tuple[CodeBook, np.ndarray]:
    """The code book and the codes of a faiss index.

    index: IndexPQ, or IndexPreTransform of one linear transform without bias and an IndexPQ; 8 bits, L2, trained.
    Returns the code book and its codes (N, M) uint8. Raises UsageError for another index.
    """
    faiss = _faiss()
    rotation = None
    coder = faiss.downcast_index(index)  # borrows from `index`, which must outlive it
    if isinstance(coder, faiss.IndexPreTransform):
        rotation = _rotation_of(faiss, coder)
        coder = faiss.downcast_index(coder.index)
    if not isinstance(coder, faiss.IndexPQ):
        raise UsageError(f"a faiss {type(coder).__name__} holds no code book of ours; convert it to IndexPQ")
    if not coder.is_trained or coder.pq.nbits != 8 or coder.metric_type != faiss.METRIC_L2:
        raise UsageError(
            f"the faiss index has {coder.pq.nbits} bits a code, metric {coder.metric_type}, trained "
            f"{coder.is_trained}; 8 bits, L2 and trained are needed"
        )
    centroids = faiss.vector_to_array(coder.pq.centroids).reshape(coder.pq.M, CODEWORDS, coder.pq.dsub)
    codes = faiss.vector_to_array(coder.codes).reshape(coder.ntotal, coder.pq.M)
    return CodeBook(rotation, centroids), codes


def faiss_from_codebook(book: CodeBook, codes: np.ndarray | None = None) -> Any:
    """A faiss index with this code book: IndexPQ, or IndexPreTransform of a rotation and an IndexPQ.

    codes: (N, M) uint8 to put in, or None. Raises UsageError for codes of another width.
    """
    faiss = _faiss()
    index = faiss.IndexPQ(book.width, book.subspaces, 8)
    faiss.copy_array_to_vector(book.centroids.ravel(), index.pq.centroids)
    index.is_trained = True
    if codes is not None:
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != book.subspaces:
            raise UsageError(f"codes are {codes.dtype} {codes.shape}; this code book needs uint8 (N, {book.subspaces})")
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), index.codes)
        index.ntotal = len(codes)
    if book.rotation is None:
        return index
    transform = faiss.LinearTransform(book.width, book.width, False)
    # faiss multiplies column vectors, we multiply rows.
    faiss.copy_array_to_vector(np.ascontiguousarray(book.rotation.T).ravel(), transform.A)
    transform.is_trained = True
    transform.set_is_orthonormal()
    return _owning_pretransform(faiss, transform, index)


def faiss_from_space(space: CodeSpace, codes: np.ndarray) -> Any:
    """A faiss index that takes descriptors as the pipeline gives them: projection, norm, rotation and IndexPQ in one.

    codes: (N, M) uint8 of this space. Distances are squared L2 between the projected query and the decoded row.
    """
    faiss = _faiss()
    index = faiss_from_codebook(space.book, codes)
    if not isinstance(index, faiss.IndexPreTransform):
        whole = faiss.IndexPreTransform(index)
        whole.own_fields = True
        index.this.disown()
        index = whole
    projection = space.projection
    project = faiss.LinearTransform(len(projection.mean), projection.width, True)
    faiss.copy_array_to_vector(np.ascontiguousarray(projection.matrix.T).ravel(), project.A)
    faiss.copy_array_to_vector(-(projection.mean @ projection.matrix), project.b)
    project.is_trained = True
    for transform in (faiss.NormalizationTransform(projection.width, 2.0), project):
        index.prepend_transform(transform)
        transform.this.disown()
    return index


def write_faiss(index: Any, path: str) -> None:
    """Write an index to a file. Raises StorageError where that fails."""
    try:
        _faiss().write_index(index, path)
    except RuntimeError as error:
        raise StorageError(f"{path} cannot be written ({error})") from error


def _rotation_of(faiss: ModuleType, index: Any) -> np.ndarray:
    transform = faiss.downcast_VectorTransform(index.chain.at(0))
    if (
        index.chain.size() != 1
        or not isinstance(transform, faiss.LinearTransform)
        or transform.have_bias
        or transform.d_in != transform.d_out
    ):
        raise UsageError("the faiss index transforms vectors by more than one rotation; only OPQ can be imported")
    matrix = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
    return np.ascontiguousarray(matrix.T)


def _owning_pretransform(faiss: ModuleType, transform: Any, index: Any) -> Any:
    whole = faiss.IndexPreTransform(transform, index)
    whole.own_fields = True
    for part in (transform, index):
        part.this.disown()
    return whole


def _faiss() -> ModuleType:
    # It tells of every variant of itself that it did not find.
    logging.getLogger("faiss").setLevel(logging.WARNING)
    try:
        import faiss
    except ImportError as error:
        raise MachineError("faiss is not installed: pip install faiss-cpu") from error
    return faiss
