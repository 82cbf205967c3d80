"""The reader of torch's legacy files: right on whole ones, one error class on everything else, nothing executed."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_stream import HEADER, number, numbers, stream_of_state, tensor, text

from edge_claid.models.torch_file import TorchFileError, read_state_dict

STATE = {
    "weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "scalar": np.array(7, np.int64),
    "bias": np.array([0.5, -1.5], np.float32),
}
WHOLE = stream_of_state(STATE)


def test_reads_every_tensor_with_its_shape_and_dtype():
    state = read_state_dict(WHOLE)
    assert list(state) == list(STATE)
    for name, array in STATE.items():
        assert state[name].dtype == array.dtype
        np.testing.assert_array_equal(state[name], array)


def test_agrees_with_torch_on_strided_and_shared_storages():
    torch = pytest.importorskip("torch")
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12)
    state = {"whole": base, "transposed": base.t(), "part": base[1:3, 2:9:3], "count": torch.tensor([3, 4])}
    file = io.BytesIO()
    torch.save(OrderedDict(state), file, _use_new_zipfile_serialization=False)
    read = read_state_dict(file.getvalue())
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value.numpy())


class Bomb:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_calls_something_is_refused_and_not_run(protocol, monkeypatch):
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    with pytest.raises(TorchFileError):
        read_state_dict(HEADER + pickle.dumps(Bomb(), protocol=protocol))
    assert not ran


@pytest.mark.parametrize(
    "name", ["posix system", "builtins eval", "torch DoubleStorage", "torch._utils _rebuild_tensor"]
)
def test_a_global_off_the_list_is_named(name):
    module, attribute = name.split()
    stream = f"\x80\x02c{module}\n{attribute}\n.".encode("latin1")
    with pytest.raises(TorchFileError, match="not on the allow-list"):
        read_state_dict(HEADER + stream)


def with_tensor(opcodes: bytes, count: int) -> bytes:
    """A file of one float32 tensor whose opcodes are given, storage ``k`` of count values."""
    entries = b"\x80\x02ccollections\nOrderedDict\n)R" + text("x") + opcodes + b"s."
    return HEADER + entries + b"\x80\x02]" + text("k") + b"a." + struct.pack("<q", count) + bytes(4 * count)


def rebuilt(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int = 6) -> bytes:
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("k") + text("cpu") + number(count) + b"NtQ"
    tail = number(offset) + numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + tail


def test_the_made_up_tensor_is_readable_when_it_fits():
    assert read_state_dict(with_tensor(rebuilt(1, (5,), (1,)), 6))["x"].shape == (5,)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (2, (5,), (1,)),
        (0, (2, 3), (4, 1)),
        (-1, (3,), (1,)),
        (0, (3,), (-1,)),
        (0, (1 << 30, 1 << 30), (0, 0)),
        (0, (2, 3), (3,)),
        (0, (1,) * 9, (1,) * 9),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(offset, shape, strides):
    with pytest.raises(TorchFileError):
        read_state_dict(with_tensor(rebuilt(offset, shape, strides), 6))


def test_a_storage_larger_than_the_file_is_refused_before_memory_is_taken():
    with pytest.raises(TorchFileError):
        read_state_dict(with_tensor(rebuilt(0, (2,), (1,), count=1 << 30), 6))


def test_a_tuple_nested_into_itself_many_times_over_ends_at_once():
    doubled = b")" + b"q\x00h\x00\x86" * 200
    with pytest.raises(TorchFileError):
        read_state_dict(HEADER + WHOLE[len(HEADER) :].split(b"\x80\x02]")[0] + b"\x80\x02]" + doubled + b"a.")


@pytest.mark.parametrize("end", range(0, len(WHOLE) - 1, 7))
def test_every_truncation_is_told(end):
    with pytest.raises(TorchFileError):
        read_state_dict(WHOLE[:end])


def ends_well(data: bytes) -> None:
    try:
        state = read_state_dict(data)
    except TorchFileError:
        return
    assert all(array.dtype in (np.float32, np.int64) for array in state.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_give_tensors_or_our_error(changes):
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    ends_well(bytes(data))


# The opcodes the reader knows and a few it must not: what random bytes would take long to hit.
PIECES = st.sampled_from(
    [bytes([c]) for c in b"(tRQbsu}])ael.0i\x85\x86\x87N\x88\x89\x80\x02\x93\x81"]
    + [text("a"), text("storage"), number(3), b"K\x01", b"M\x01\x02", b"q\x00", b"h\x00", b"j\x00\x00\x00\x00"]
    + [
        b"ccollections\nOrderedDict\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"cos\nsystem\n",
    ]
    + [b"\x8a\x01\x7f", tensor(STATE["bias"], "k")]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=40))
def test_any_order_of_opcodes_gives_our_error(pieces):
    ends_well(HEADER + b"\x80\x02" + b"".join(pieces) + b".")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_our_error(data):
    with pytest.raises(TorchFileError):
        read_state_dict(data)
