"""The code book: what turns a descriptor into a few bytes and a query into look-up tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edge_claid.codes import codebook_file
from edge_claid.errors import GalleryError, UsageError
from edge_claid.ops.cpu import _encode

CODEWORDS = 256
KIND = "code-book"
VERSION = 1


@dataclass(frozen=True, eq=False)
class CodeBook:
    """Code book of an (optimised) product quantiser: M subspaces of 256 codewords.

    rotation: (D, D) float32, a row descriptor is rotated by ``values @ rotation``; None for a plain product quantiser.
    centroids: (M, 256, D / M) float32; centroids[m, c] is codeword c of subspace m.
    Raises UsageError for other shapes, dtypes or values that are not finite.
    Source: Jégou et al., Product Quantization for Nearest Neighbor Search, 2011; Ge et al., Optimized PQ, 2014.
    """

    rotation: np.ndarray | None
    centroids: np.ndarray

    def __post_init__(self) -> None:
        centroids, rotation = self.centroids, self.rotation
        if (
            centroids.dtype != np.float32
            or centroids.ndim != 3
            or centroids.shape[1] != CODEWORDS
            or not centroids.size
        ):
            raise UsageError(
                f"a code book holds ({centroids.dtype}, {centroids.shape}); centroids must be float32 (M, 256, D / M)"
            )
        if rotation is not None and (rotation.dtype != np.float32 or rotation.shape != (self.width, self.width)):
            raise UsageError(
                f"a code book's rotation is {rotation.dtype} {rotation.shape}; its centroids need float32 "
                f"({self.width}, {self.width})"
            )
        if not np.isfinite(centroids).all() or (rotation is not None and not np.isfinite(rotation).all()):
            raise UsageError("a code book holds NaN or infinite values; train it again")

    @property
    def subspaces(self) -> int:
        """M, also the bytes of one code."""
        return self.centroids.shape[0]

    @property
    def width(self) -> int:
        """D, length of a descriptor."""
        return self.centroids.shape[0] * self.centroids.shape[2]

    @cached_property
    def _codewords(self) -> np.ndarray:
        """(M, D / M, 256) float32, the layout the encode op reads."""
        return np.ascontiguousarray(self.centroids.transpose(0, 2, 1))

    def rotate(self, values: np.ndarray) -> np.ndarray:
        """(N, D) to (N, D) float32 in the space of the centroids. Raises UsageError for a wrong width or NaN."""
        values = checked_values(values, self.width)
        if self.rotation is None:
            return values
        return _encode.rotate(values, np.ascontiguousarray(self.rotation))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """(N, D) descriptors to (N, M) uint8 codes; codes[n, m] is the codeword of descriptor n in subspace m."""
        return _encode.nearest_codewords(self.rotate(values), self._codewords)[0]

    def tables(self, queries: np.ndarray) -> np.ndarray:
        """(Q, D) descriptors to look-up tables (Q, M, 256) float32.

        tables[q, m, c] is the squared L2 distance of subvector m of query q to codeword c of subspace m.
        """
        return _encode.lookup_tables(self.rotate(queries), self._codewords)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(N, M) uint8 codes to the descriptors they stand for, (N, D) float32, rotated back."""
        codes = np.asarray(codes)
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != self.subspaces:
            raise UsageError(f"codes are {codes.dtype} {codes.shape}; this code book reads uint8 (N, {self.subspaces})")
        rotated = self.centroids[np.arange(self.subspaces), codes].reshape(len(codes), self.width)
        return rotated if self.rotation is None else rotated @ self.rotation.T

    def dump(self) -> bytes:
        """The code book as a file (see codebook_file)."""
        arrays = {"centroids": self.centroids}
        if self.rotation is not None:
            arrays["rotation"] = self.rotation
        return codebook_file.dump(KIND, VERSION, {}, arrays)

    @classmethod
    def load(cls, data: bytes) -> CodeBook:
        """Read what dump() wrote. Raises GalleryError for anything else."""
        _, arrays = codebook_file.load(data, KIND, VERSION)
        if "centroids" not in arrays or not set(arrays) <= {"centroids", "rotation"}:
            raise GalleryError(f"the code book file holds the arrays {sorted(arrays)}; train the code book again")
        try:
            return cls(arrays.get("rotation"), arrays["centroids"])
        except UsageError as error:
            raise GalleryError(str(error)) from error


def checked_values(values: np.ndarray, width: int | None = None) -> np.ndarray:
    """Descriptors as contiguous (N, D) float32. Raises UsageError for another width than `width`, NaN or infinity."""
    values = np.ascontiguousarray(values, np.float32)
    if values.ndim != 2 or (width is not None and values.shape[1] != width):
        raise UsageError(f"descriptors are {values.shape}; this code book takes (N, {width or 'D'})")
    if not np.isfinite(values).all():
        raise UsageError("descriptors hold NaN or infinite values; enrol the pictures again")
    return values
