"""Reads torch's legacy state-dict files by an own opcode reader; nothing in the file is ever executed.

A legacy file is four pickle streams (magic number, protocol, machine, the dict) and a list of storage keys, followed by
the storages' raw bytes. Only the opcodes that torch writes are known, and only four globals, each mapped to a plain
function of this module. Anything else ends in UsageError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_claid.errors import UsageError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_MAXIMUM_OPCODES = 1_000_000
_MAXIMUM_DIMENSIONS = 8


class TorchFileError(UsageError):
    """The file is no torch state dict of the legacy kind, is damaged, or asks for something not on the allow-list."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Dict(dict[Any, Any]):
    """An OrderedDict of the stream; BUILD may hang attributes on it, which are dropped."""


_MARK = object()
_STORAGES: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}


def read_state_dict(data: bytes | memoryview) -> dict[str, np.ndarray]:
    """The tensors of a legacy torch file by name, float32 or int64, each a contiguous copy.

    data: the whole file. Raises TorchFileError (a UsageError) for anything but a well-formed state dict.
    """
    stream = _Stream(memoryview(data).cast("B"))
    try:
        if stream.load() != MAGIC or stream.load() != PROTOCOL:
            raise TorchFileError("no legacy torch file: its magic number or its protocol (1001) is missing")
        machine = stream.load()
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise TorchFileError("torch file of a big-endian machine, or its header is damaged")
        tensors = _tensors(stream.load())
        return _fill(tensors, _storages(stream, tensors, stream.load()))
    except (IndexError, KeyError, TypeError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise TorchFileError(f"damaged torch file near byte {stream.position}: {error!r}") from error


def _tensors(entries: object) -> dict[str, _Tensor]:
    if not isinstance(entries, _Dict) or not entries:
        raise TorchFileError("torch file holds no state dict")
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise TorchFileError("torch file holds something else than named tensors")
    return dict(entries)


def _storages(stream: _Stream, tensors: dict[str, _Tensor], keys: object) -> dict[str, np.ndarray]:
    declared: dict[str, _Storage] = {}
    for tensor in tensors.values():
        if declared.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise TorchFileError(f"torch file declares storage {tensor.storage.key} twice, differently")
    # The keys' kind comes first: hashing a tuple nested into itself many times over would never end.
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise TorchFileError("torch file has no list of its storages")
    if len(set(keys)) != len(keys) or set(keys) != set(declared):
        raise TorchFileError("torch file lists other storages than its tensors use")
    arrays = {}
    for key in keys:
        storage = declared[key]
        (count,) = struct.unpack("<q", stream.take(8))
        if count != storage.count:
            raise TorchFileError(f"torch file stores {count} values in storage {key}, declared {storage.count}")
        arrays[key] = np.frombuffer(stream.take(count * storage.dtype.itemsize), storage.dtype)
    return arrays


def _fill(tensors: dict[str, _Tensor], storages: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    state = {}
    for name, tensor in tensors.items():
        values = storages[tensor.storage.key]
        size = int(np.prod(tensor.shape, dtype=object)) if tensor.shape else 1
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        # A tensor larger than its storage (stride 0) is legal for torch, but never in a state dict of weights.
        if size > len(values) or (size and last >= len(values)):
            raise TorchFileError(f"tensor {name} reaches beyond its storage")
        steps = [step * values.itemsize for step in tensor.strides]
        view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, steps, writeable=False)
        state[name] = np.array(view) if size else np.zeros(tensor.shape, values.dtype)
    return state


def _rebuild_tensor(arguments: tuple[Any, ...]) -> _Tensor:
    if len(arguments) != 6:
        raise TorchFileError("torch file rebuilds a tensor from other arguments than torch writes")
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, _Storage) or not all(map(_is_sizes, ((offset,), shape, strides))):
        raise TorchFileError("torch file rebuilds a tensor from other arguments than torch writes")
    if len(shape) != len(strides) or len(shape) > _MAXIMUM_DIMENSIONS:
        raise TorchFileError("torch file holds a tensor whose shape and strides do not fit")
    return _Tensor(storage, offset, shape, strides)


def _is_sizes(values: object) -> bool:
    return isinstance(values, tuple) and all(type(n) is int and 0 <= n < 2**40 for n in values)


def _ordered_dict(arguments: tuple[Any, ...]) -> _Dict:
    if arguments:
        raise TorchFileError("torch file fills an OrderedDict in an unknown way")
    return _Dict()


def _storage(identity: object) -> _Storage:
    if not isinstance(identity, tuple) or len(identity) != 6 or identity[0] != "storage" or identity[5] is not None:
        raise TorchFileError("torch file refers to something else than a storage")
    kind, key, count = identity[1], identity[2], identity[4]
    if not isinstance(kind, _Global) or kind.name not in _STORAGES or not isinstance(key, str):
        raise TorchFileError("torch file holds a storage of another kind than float32 or int64")
    if type(count) is not int or not _is_sizes((count,)):
        raise TorchFileError("torch file holds a storage of impossible size")
    return _Storage(key, _STORAGES[kind.name], count)


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
}


class _Stream:
    """A stack machine for the subset of pickle protocol 2 that torch writes. The stack holds plain values only."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.position = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._opcodes = 0

    def take(self, count: int) -> memoryview:
        if count < 0 or self.position + count > len(self._data):
            raise TorchFileError(f"torch file ends early: {count} bytes wanted at byte {self.position}")
        self.position += count
        return self._data[self.position - count : self.position]

    def load(self) -> Any:
        """The value of the next pickle stream."""
        self._stack, self._memo = [], {}
        while True:
            opcode = self.take(1)[0]
            self._opcodes += 1
            if self._opcodes > _MAXIMUM_OPCODES:
                raise TorchFileError("torch file has more opcodes than any network needs")
            if opcode == 0x2E:  # STOP
                (value,) = self._stack
                return value
            action = _ACTIONS.get(opcode)
            if action is None:
                raise TorchFileError(f"torch file uses opcode 0x{opcode:02x} at byte {self.position - 1}, not allowed")
            action(self)

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise TorchFileError("torch file has a mark where a value belongs")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise TorchFileError("torch file closes a list that it never opened")
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def top(self, kind: type) -> Any:
        value = self._stack[-1]
        if not isinstance(value, kind):
            raise TorchFileError(f"torch file fills a {type(value).__name__} as a {kind.__name__}")
        return value

    def protocol(self) -> None:
        if self.take(1)[0] != 2:
            raise TorchFileError("torch file uses another pickle protocol than 2")

    def text(self) -> None:
        self.push(str(self.take(self.number("<I")), "utf-8"))

    def long1(self) -> None:
        self.push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def line(self) -> str:
        start = self.position
        while self.take(1)[0] != 0x0A:
            if self.position - start > 64:
                raise TorchFileError("torch file names something that is not on the allow-list")
        return str(self._data[start : self.position - 1], "ascii")

    def named(self) -> None:
        name = f"{self.line()} {self.line()}"
        if name not in _CALLS and name not in _STORAGES:
            raise TorchFileError(f"torch file asks for {name!r}, which is not on the allow-list")
        self.push(_Global(name))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or function.name not in _CALLS or not isinstance(arguments, tuple):
            raise TorchFileError("torch file calls something that is not on the allow-list")
        self.push(_CALLS[function.name](arguments))

    def drop_state(self) -> None:
        self.pop()
        self.top(_Dict)

    def tuple_of(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def put(self, layout: str) -> None:
        value = self._stack[-1]
        if value is _MARK:
            raise TorchFileError("torch file remembers a mark")
        self._memo[self.number(layout)] = value

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, flat: list[Any]) -> None:
        target = self.top(dict)
        if len(flat) % 2:
            raise TorchFileError("torch file sets a key without a value")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if not isinstance(key, str):
                raise TorchFileError("torch file has a key that is no text")
            target[key] = value


_ACTIONS: dict[int, Callable[[_Stream], None]] = {
    0x80: _Stream.protocol,
    0x28: lambda s: s.push(_MARK),  # MARK
    0x4E: lambda s: s.push(None),  # NONE
    0x88: lambda s: s.push(True),  # NEWTRUE
    0x89: lambda s: s.push(False),  # NEWFALSE
    0x4B: lambda s: s.push(s.number("<B")),  # BININT1
    0x4D: lambda s: s.push(s.number("<H")),  # BININT2
    0x4A: lambda s: s.push(s.number("<i")),  # BININT
    0x8A: _Stream.long1,
    0x58: _Stream.text,  # BINUNICODE
    0x29: lambda s: s.push(()),  # EMPTY_TUPLE
    0x85: lambda s: s.tuple_of(1),
    0x86: lambda s: s.tuple_of(2),
    0x87: lambda s: s.tuple_of(3),
    0x74: lambda s: s.push(tuple(s.pop_to_mark())),  # TUPLE
    0x5D: lambda s: s.push([]),  # EMPTY_LIST
    0x61: lambda s: s.append([s.pop()]),  # APPEND
    0x65: lambda s: s.append(s.pop_to_mark()),  # APPENDS
    0x7D: lambda s: s.push({}),  # EMPTY_DICT
    0x73: lambda s: s.set_items(list(reversed([s.pop(), s.pop()]))),  # SETITEM
    0x75: lambda s: s.set_items(s.pop_to_mark()),  # SETITEMS
    0x71: lambda s: s.put("<B"),  # BINPUT
    0x72: lambda s: s.put("<I"),  # LONG_BINPUT
    0x68: lambda s: s.push(s._memo[s.number("<B")]),  # BINGET
    0x6A: lambda s: s.push(s._memo[s.number("<I")]),  # LONG_BINGET
    0x63: _Stream.named,  # GLOBAL
    0x52: _Stream.call,  # REDUCE
    0x62: _Stream.drop_state,  # BUILD
    0x51: lambda s: s.push(_storage(s.pop())),  # BINPERSID
}
