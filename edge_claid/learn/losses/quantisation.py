"""Quantisation error: what a code book loses of features (UDQ, papers/udq.txt eq. 6)."""

from __future__ import annotations

import numpy as np

from edge_claid.codes.codebook import CodeBook


def quantisation_loss(features: np.ndarray, book: CodeBook) -> float:
    """Mean squared L2 distance of features to what their codes stand for.

    features: (N, D) float32. The optimised product quantiser minimises it (over rotation, codewords and codes); the
    loop reports it, since features with a cluster structure have a small one. Raises UsageError for another width.
    """
    return float(np.square(features - book.decode(book.encode(features))).sum() / len(features))
