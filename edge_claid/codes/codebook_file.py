"""A small file for named arrays: versioned, checksummed, never executed.

Layout, little-endian: magic (8 bytes), length of the head (uint32), head (JSON, UTF-8), the arrays' bytes one after
the other in the order of the head, SHA-256 of all before it (32 bytes). The head is
``{"kind", "version", "header", "arrays": [[name, dtype, shape], ...]}``.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any

import numpy as np

from edge_claid.errors import GalleryError, UsageError

MAGIC = b"CLAIDAR1"
DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "uint16", "uint32")
LARGEST_HEAD = 1 << 24
MOST_DIMENSIONS = 8
CHECKSUM = hashlib.sha256().digest_size
PREFIX = struct.Struct("<8sI")


def dump(kind: str, version: int, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as bytes.

    kind, version: what the arrays mean; load() refuses another. header: anything JSON holds.
    Raises UsageError for a dtype outside DTYPES or a header that JSON does not hold.
    """
    described = []
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES or array.ndim > MOST_DIMENSIONS:
            raise UsageError(f"array {name!r} is {array.dtype} {array.shape}; a {kind} file holds {', '.join(DTYPES)}")
        described.append([name, array.dtype.name, list(array.shape)])
    head = {"kind": kind, "version": version, "header": header, "arrays": described}
    try:
        encoded = json.dumps(head, allow_nan=False, ensure_ascii=False, sort_keys=True).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"the header of a {kind} file must be plain JSON: {error}") from error
    if len(encoded) > LARGEST_HEAD:
        raise UsageError(f"the header of a {kind} file has {len(encoded)} bytes; {LARGEST_HEAD} is the most")
    body = PREFIX.pack(MAGIC, len(encoded)) + encoded + b"".join(_little_endian(array) for array in arrays.values())
    return body + hashlib.sha256(body).digest()


def load(data: bytes, kind: str, version: int = 1) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what dump() wrote: the header and the arrays, which are read-only views of `data`.

    Raises GalleryError for data that is cut short, altered, of another kind or version, or ill-formed.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UsageError(f"a {kind} file is read from bytes, not from {type(data).__name__}")
    data = bytes(data)
    if len(data) < PREFIX.size + CHECKSUM or data[: len(MAGIC)] != MAGIC:
        raise GalleryError(f"this is no {kind} file, or it is cut short")
    if hashlib.sha256(memoryview(data)[:-CHECKSUM]).digest() != data[-CHECKSUM:]:
        raise GalleryError(f"the {kind} file is cut short or altered: its checksum does not match")
    _, head_length = PREFIX.unpack_from(data)
    if head_length > min(LARGEST_HEAD, len(data) - PREFIX.size - CHECKSUM):
        raise GalleryError(f"the {kind} file says its head has {head_length} bytes, more than it holds")
    start = PREFIX.size + head_length
    head = _parsed_head(data[PREFIX.size : start], kind)
    if head["kind"] != kind:
        raise GalleryError(f"this file holds a {head['kind']!r}, not a {kind}")
    if head["version"] != version:
        raise GalleryError(f"the {kind} file has version {head['version']}, this program reads version {version}")
    return head["header"], _sliced_arrays(head["arrays"], data, start, kind)


def _little_endian(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _parsed_head(encoded: bytes, kind: str) -> dict[str, Any]:
    try:
        head = json.loads(encoded.decode())
    except (ValueError, RecursionError) as error:
        raise GalleryError(f"the head of the {kind} file is no JSON") from error
    fields: dict[str, type] = {"kind": str, "version": int, "header": dict, "arrays": list}
    if not isinstance(head, dict) or any(not isinstance(head.get(name), of) for name, of in fields.items()):
        raise GalleryError(f"the head of the {kind} file lacks one of {', '.join(fields)}")
    return head


def _sliced_arrays(described: list[Any], data: bytes, start: int, kind: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    stop = len(data) - CHECKSUM
    for entry in described:
        name, dtype, shape = _checked_entry(entry, kind)
        size = math.prod(shape) * dtype.itemsize
        if name in arrays or start + size > stop:
            raise GalleryError(f"the {kind} file names {name!r} twice or is too short for it")
        flat = np.frombuffer(data, dtype, math.prod(shape), start)
        arrays[name] = flat.reshape(shape)
        start += size
    if start != stop:
        raise GalleryError(f"the {kind} file holds {stop - start} bytes that belong to no array")
    return arrays


def _checked_entry(entry: Any, kind: str) -> tuple[str, np.dtype, tuple[int, ...]]:
    well_formed = (
        isinstance(entry, list)
        and len(entry) == 3
        and isinstance(entry[0], str)
        and entry[1] in DTYPES
        and isinstance(entry[2], list)
        and len(entry[2]) <= MOST_DIMENSIONS
        and all(type(side) is int and 0 <= side < 2**31 for side in entry[2])
        and math.prod(side for side in entry[2] if side) < 2**48
    )
    if not well_formed:
        raise GalleryError(f"the {kind} file describes an array that cannot be: {str(entry)[:80]}")
    return entry[0], np.dtype(entry[1]).newbyteorder("<"), tuple(entry[2])
