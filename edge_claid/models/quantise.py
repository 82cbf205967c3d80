"""The int8 twin of a transformer for CPUs: weights in 8 bits, activations quantised as they come."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edge_claid.models.cache import storage_errors


def dynamic_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its weight matrix products in dynamic int8, per output channel; all else stays float32."""
    place = Path(tempfile.gettempdir())
    with storage_errors(place), tempfile.TemporaryDirectory() as folder, _quiet_root_logger():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
            # 7-bit weights: x86 without VNNI adds two 8-bit products in 16 bits, which would saturate.
            reduce_range=True,
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        return onnx.load(path)


@contextlib.contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """The quantiser writes a line a tensor to the root logger, which users would read as trouble."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logging.getLogger().addFilter(drop)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(drop)


def token_cosines(tokens: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(B, N) cosine of each token with its reference; both (B, N, D)."""
    dots = (tokens * reference).sum(-1)
    return dots / (np.linalg.norm(tokens, axis=-1) * np.linalg.norm(reference, axis=-1))
