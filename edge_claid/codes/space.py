"""The code space of a gallery: its projection and its code book, with an id of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edge_claid.codes import codebook_file
from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.opq import train_opq
from edge_claid.codes.projection import Projection, fit_whitening
from edge_claid.config import CodeSettings
from edge_claid.errors import GalleryError, UsageError

KIND = "code-space"
VERSION = 1
REGIONS_PER_CODEWORD = 2  # fewer regions a codeword than this and the code book learns them by heart


@dataclass(frozen=True, eq=False)
class CodeSpace:
    """Descriptors to codes, and queries to look-up tables.

    projection: whitening to d dimensions. book: code book over those d dimensions.
    """

    projection: Projection
    book: CodeBook

    def project(self, descriptors: np.ndarray) -> np.ndarray:
        """(R, D) descriptors to (R, d) float32 of unit norm."""
        return self.projection.project(descriptors)

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """(R, D) descriptors to (R, M) uint8 codes."""
        return self.book.encode(self.project(descriptors))

    def tables(self, descriptors: np.ndarray) -> np.ndarray:
        """(Q, D) query descriptors to look-up tables (Q, M, 256) float32 of squared distances."""
        return self.book.tables(self.project(descriptors))

    @cached_property
    def id(self) -> str:
        """Names the space by its content: two galleries of one id hold comparable codes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    def to_bytes(self) -> bytes:
        """The space as a gallery stores it (see codebook_file)."""
        arrays = {"mean": self.projection.mean, "matrix": self.projection.matrix, "centroids": self.book.centroids}
        if self.book.rotation is not None:
            arrays["rotation"] = self.book.rotation
        return codebook_file.dump(KIND, VERSION, {}, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> CodeSpace:
        """Read what ``to_bytes`` wrote. Raises GalleryError for anything else."""
        _, arrays = codebook_file.load(data, KIND, VERSION)
        if not {"mean", "matrix", "centroids"} <= set(arrays) <= {"mean", "matrix", "centroids", "rotation"}:
            raise GalleryError(f"a code space holds the arrays {sorted(arrays)}; restore the gallery from a copy")
        mean, matrix = arrays["mean"], arrays["matrix"]
        try:
            book = CodeBook(arrays.get("rotation"), arrays["centroids"])
        except UsageError as error:
            raise GalleryError(f"a code space is damaged: {error}") from error
        shapes_fit = mean.ndim == 1 and matrix.shape == (len(mean), book.width)
        if mean.dtype != np.float32 or matrix.dtype != np.float32 or not shapes_fit:
            raise GalleryError(f"a code space's projection {mean.shape} {matrix.shape} does not fit its code book")
        if not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
            raise GalleryError("a code space's projection holds NaN or infinite values")
        return cls(Projection(mean, matrix), book)


def regions_needed(settings: CodeSettings) -> int:
    """Regions that must be stored before a code space can be trained."""
    least = 256 * REGIONS_PER_CODEWORD
    return max(2 * width_for(settings, least), least)


def require_trainable(regions: int, settings: CodeSettings) -> None:
    """Raises UsageError where a code space of these settings cannot be trained on so many regions."""
    if settings.bytes < 1 or settings.width % settings.bytes:
        raise UsageError(f"codes of {settings.bytes} bytes do not divide {settings.width} dimensions: take 8, 16 or 32")
    needed = regions_needed(settings)
    if regions < needed:
        raise UsageError(f"a code space needs {needed} regions, the gallery has {regions}: enrol more first")


def width_for(settings: CodeSettings, regions: int) -> int:
    """Dimensions to keep: as set, halved while so few regions would tell nothing of that many directions."""
    width = settings.width
    while regions < 2 * width and width % (2 * settings.bytes) == 0:
        width //= 2
    return width


def train_space(
    descriptors: np.ndarray,
    settings: CodeSettings,
    *,
    within: np.ndarray | None = None,
    parts: Sequence[int] = (),
    seed: int = 0,
) -> CodeSpace:
    """Fit the projection and the code book on a gallery's descriptors.

    descriptors: (N, D) float16 or float32, unit norm. within: (D, D) scatter of regions over views, or None for a
    whitening without it; parts: lengths of the descriptors' parts (see projection.fit_whitening). Raises UsageError for
    too few regions, for values that are not finite, and for a code length that does not divide the width.
    """
    require_trainable(len(descriptors), settings)
    width = width_for(settings, len(descriptors))
    projection = fit_whitening(descriptors, width, power=settings.whitening, within=within, parts=parts)
    book = train_opq(projection.project(descriptors), settings.bytes, seed=seed)
    return CodeSpace(projection, book)
