"""Rows of an SQLite file read page by page, without the trees that lead to them: what remains when pages are damaged.

Source of the layout: "Database File Format", sqlite.org/fileformat2.html, sections 1.3 (header), 1.6 (B-tree pages),
1.7 (overflow), 1.8 (pointer map), 2.1 (record format).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

Value = int | float | str | bytes | None

_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_FREE, _OVERFLOW, _OVERFLOW_MORE = 2, 3, 4  # uses of a page in the pointer map
_LOCK_BYTE = 0x40000000
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MOST_VALUES = 64  # columns a record of ours never reaches


class Pages:
    """An SQLite file's pages, mapped; to be used in a ``with`` block.

    size: bytes of a page; count: pages. A file without a readable header is taken to have pages of 4,096 bytes,
    SQLite's default.
    """

    def __init__(self, path: str):
        with open(path, "rb") as file:
            self._bytes = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._bytes else mmap.mmap(-1, 1)
        size = struct.unpack(">H", self._map[16:18].ljust(2, b"\0"))[0]
        size = 65536 if size == 1 else size
        self.size = size if size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) else 4096
        self._usable = self.size - (self._map[20] if self._bytes > 20 and self._map[20] <= 32 else 0)
        self.count = self._bytes // self.size
        self._chained = bytearray()

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def table_rows(self) -> Iterator[tuple[int, tuple[Value, ...]]]:
        """(rowid, values) of every row of every table, in the order of the pages; what is damaged is passed over."""
        for page in self._pages_of(_TABLE_LEAF):
            for at in self._cells(page, 8):
                try:
                    length, at = _varint(page, at)
                    rowid, at = _varint(page, at)
                    yield _signed(rowid), _record(self._payload(page, at, length, self._usable - 35))
                except (ValueError, IndexError, struct.error):
                    continue

    def index_rows(self) -> Iterator[tuple[Value, ...]]:
        """Values of every entry of every index, and of tables without rowids."""
        most = (self._usable - 12) * 64 // 255 - 23
        for kind, head in ((_INDEX_LEAF, 8), (_INDEX_INTERIOR, 12)):
            for page in self._pages_of(kind):
                for at in self._cells(page, head):
                    try:
                        length, at = _varint(page, at + head - 8)
                        yield _record(self._payload(page, at, length, most))
                    except (ValueError, IndexError, struct.error):
                        continue

    def _pages_of(self, kind: int) -> Iterator[bytes]:
        """Pages of this kind that are in use, as the pointer map tells; where that is damaged too, all of them.

        The first page, which describes the layout, is left out.
        """
        self._chained = bytearray(self.count + 1)
        for number in range(2, self.count + 1):
            start = (number - 1) * self.size
            if self._map[start] == kind and self._use(number) not in (_FREE, _OVERFLOW, _OVERFLOW_MORE):
                yield self._map[start : start + self.size]

    def _use(self, number: int) -> int:
        """What the pointer map says a page is used for; 0 where it has no say."""
        entries = self._usable // 5
        group = (number - 2) // (entries + 1)
        mapped_by = group * (entries + 1) + 2
        if mapped_by == _LOCK_BYTE // self.size + 1:
            mapped_by += 1
        if number <= mapped_by:
            return _FREE
        entry = (mapped_by - 1) * self.size + 5 * (number - mapped_by - 1)
        return self._map[entry]

    def _cells(self, page: bytes, head: int) -> list[int]:
        count = min(struct.unpack_from(">H", page, 3)[0], (self._usable - head) // 2)
        pointers = struct.unpack_from(f">{count}H", page, head)
        return [at for at in dict.fromkeys(pointers) if head + 2 * count <= at < self._usable]

    def _payload(self, page: bytes, at: int, length: int, most: int) -> bytes:
        """The record of a cell, with what overflowed to other pages. Raises ValueError where it is cut off."""
        if length > self._bytes:
            raise ValueError("longer than the file")
        if length <= most:
            return _exactly(page[at : min(at + length, self._usable)], length)
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (self._usable - 4)
        local = local if local <= most else least
        parts, got = [page[at : at + local]], local
        following = struct.unpack_from(">I", page, at + local)[0]
        while got < length:
            # A page belongs to one chain; a file made to have many long chains would otherwise take for ever.
            if not 2 <= following <= self.count or self._chained[following]:
                raise ValueError("a chain of pages that ends early")
            self._chained[following] = 1
            start = (following - 1) * self.size
            parts.append(self._map[start + 4 : start + min(self._usable, 4 + length - got)])
            got += len(parts[-1])
            following = struct.unpack_from(">I", self._map, start)[0]
        return _exactly(b"".join(parts), length)


def _exactly(content: bytes, length: int) -> bytes:
    if len(content) != length:
        raise ValueError("a record that is cut short")
    return content


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(9):
        byte = data[at + step]
        if step == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    raise AssertionError


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _record(data: bytes) -> tuple[Value, ...]:
    end, at = _varint(data, 0)
    if not 1 <= end <= len(data):
        raise ValueError("a record whose head is longer than itself")
    values: list[Value] = []
    body = end
    while at < end:
        kind, at = _varint(data, at)
        value, body = _value(data, kind, body)
        values.append(value)
        if len(values) > _MOST_VALUES:
            raise ValueError("a record of too many values")
    return tuple(values)


def _value(data: bytes, kind: int, at: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind in _INTEGER_BYTES:
        end = at + _INTEGER_BYTES[kind]
        return int.from_bytes(_exactly(data[at:end], end - at), "big", signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", data, at)[0], at + 8
    if kind < 12:
        raise ValueError("a kind of value that is reserved")
    end = at + (kind - 12) // 2
    content = _exactly(data[at:end], end - at)
    return (content.decode() if kind % 2 else content), end
