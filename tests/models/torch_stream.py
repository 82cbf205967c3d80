"""Writes state dicts as torch's legacy files, without torch."""

from __future__ import annotations

import struct

import numpy as np

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
MACHINE = (
    b"\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03X\r\x00\x00\x00little_endianq\x02\x88X\n\x00\x00\x00"
    b"type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\x04X\x04\x00\x00\x00longq\x07K\x04uu."
)
HEADER = MAGIC + PROTOCOL + MACHINE


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(array: np.ndarray, key: str) -> bytes:
    """The opcodes that rebuild one tensor; the array must be contiguous."""
    kind = b"FloatStorage" if array.dtype == np.float32 else b"LongStorage"
    storage = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text(key) + text("cpu") + number(array.size) + b"Nt"
    strides = tuple(step // array.itemsize for step in array.strides)
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage[1:] + b"Q" + number(0) + numbers(array.shape)
        + numbers(strides) + hooks + b"tR"
    )  # fmt: skip


def stream_of_state(state: dict[str, np.ndarray]) -> bytes:
    """A whole legacy file."""
    keys = {name: str(1000 + index) for index, name in enumerate(state)}
    items = b"".join(text(name) + tensor(array, keys[name]) for name, array in state.items())
    entries = b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u}" + text("_metadata") + b"}sb."
    listed = b"\x80\x02](" + b"".join(map(text, keys.values())) + b"e."
    raw = b"".join(struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes() for array in state.values())
    return HEADER + entries + listed + raw
