"""The file of named arrays: round trip, and refusal of everything else."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_claid.codes import codebook_file
from edge_claid.errors import GalleryError, UsageError

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "none": np.empty((0, 4), np.int64),
    "scalar": np.array(7, np.uint8),
    "strided": np.arange(10, dtype=np.float16)[::2],
}
HEADER = {"name": "Regal – Küche", "rate": 0.25, "list": [1, None, True]}
DATA = codebook_file.dump("box", 3, HEADER, ARRAYS)


def forged(head, body=b"") -> bytes:
    """A file with a right checksum around any head."""
    encoded = head if isinstance(head, bytes) else json.dumps(head).encode()
    data = codebook_file.PREFIX.pack(codebook_file.MAGIC, len(encoded)) + encoded + body
    return data + hashlib.sha256(data).digest()


def head_with(arrays, **changes):
    return {"kind": "box", "version": 3, "header": {}, "arrays": arrays} | changes


def test_round_trip():
    header, arrays = codebook_file.load(DATA, "box", 3)
    assert header == HEADER
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert codebook_file.dump("box", 3, header, arrays) == DATA


@pytest.mark.parametrize("length", [0, 7, 12, 40, len(DATA) // 2, len(DATA) - 1])
def test_cut_short(length):
    with pytest.raises(GalleryError, match="cut short"):
        codebook_file.load(DATA[:length], "box", 3)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_altered_byte_is_seen(position, change):
    altered = bytearray(DATA)
    altered[position] ^= change
    with pytest.raises(GalleryError):
        codebook_file.load(bytes(altered), "box", 3)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    for hostile in (data, codebook_file.MAGIC + data, forged(data)):
        with pytest.raises(GalleryError):
            codebook_file.load(hostile, "box", 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(JSON, st.binary(max_size=64))
def test_any_description_of_arrays_is_refused_or_sound(described, body):
    for head in (described, head_with(described), head_with([described]), head_with([["a", "uint8", described]])):
        try:
            _, arrays = codebook_file.load(forged(head, body), "box", 3)
        except GalleryError:
            continue
        assert sum(array.nbytes for array in arrays.values()) == len(body)


@pytest.mark.parametrize(
    "entry",
    [
        ["a", "float32", [2**40]],
        ["a", "float32", [-1]],
        ["a", "float32", [2**31 - 1, 2**31 - 1, 0]],
        ["a", "float32", [2**30, 2**30]],
        ["a", "float32", [True]],
        ["a", "object", [1]],
        ["a", "O", [1]],
        ["a", ["float32"], [1]],
        ["a", "float32", [1] * 9],
        ["a", "float32"],
        [3, "float32", [1]],
    ],
)
def test_absurd_arrays_are_refused(entry):
    with pytest.raises(GalleryError):
        codebook_file.load(forged(head_with([entry]), b"1234"), "box", 3)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (head_with([], kind="crate"), "crate"),
        (head_with([], version=4), "version 4"),
        (head_with([["a", "uint8", [2]], ["a", "uint8", [2]]]), "twice"),
        (head_with([["a", "uint8", [3]]]), "belong to no array"),
        (head_with([["a", "uint8", [5]]]), "too short"),
        (b"[" * 100_000, "JSON"),
        (b"\xff", "JSON"),
    ],
)
def test_sealed_but_wrong(head, message):
    with pytest.raises(GalleryError, match=message):
        codebook_file.load(forged(head, b"1234"), "box", 3)


def test_what_cannot_be_stored():
    with pytest.raises(UsageError, match="'z'"):
        codebook_file.dump("box", 1, {}, {"z": np.array([None])})
    with pytest.raises(UsageError, match="JSON"):
        codebook_file.dump("box", 1, {"x": float("nan")}, {})
    with pytest.raises(UsageError, match="bytes"):
        codebook_file.load("text", "box")
