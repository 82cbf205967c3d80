"""What a disk may hold after a cut of power: a log of writes (see file_faults.c) replayed up to a moment.

What was synced is there. What was not may be there or not, sector by sector and in any order; the same goes for files
made, renamed and removed while their folder was not synced. A file system that keeps more of an order than that only
leaves fewer of these states.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

_HEAD = struct.Struct("<cxxxxxxx4q")
_SECTOR = 512
_SHARED_MEMORY = "-shm"  # made anew by whoever opens the gallery; never read after a cut


@dataclass(frozen=True)
class Record:
    """One call. kind: O open, C close, W write, T truncate, S sync, D unlink, R rename, L link, X line on stdout.

    first, second: O: 1 where the file was there, 1 where it is emptied; W: offset, length; T: length.
    """

    kind: str
    file: int
    first: int
    second: int
    body: bytes


def read_log(path: Path) -> list[Record]:
    content, at, records = path.read_bytes(), 0, []
    while at < len(content):
        kind, file, first, second, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        records.append(Record(kind.decode(), file, first, second, content[at : at + length]))
        at += length
    return records


@dataclass
class _File:
    durable: bytearray
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)  # (offset, bytes), or a new length

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending = []


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
        return
    at, piece = change
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(piece)] = piece


class Disk:
    """A folder as programs see it, and what of it would outlive a cut of power. start: path to content, all durable."""

    def __init__(self, folder: Path, start: dict[str, bytes]):
        self._folder = str(folder)
        self._seen = {path: _File(bytearray(content)) for path, content in start.items()}
        self._durable = dict(self._seen)
        self._moves: list[tuple[str, str, _File | None]] = []  # (path that goes or "", path that comes or "", file)
        self._open: dict[int, str | _File] = {}

    def replay(self, record: Record) -> None:
        """One call more has been made."""
        if record.kind == "O":
            self._opened(record)
        elif record.kind == "C":
            self._open.pop(record.file, None)
        elif record.kind in "DRL":
            self._moved(record)
        elif record.kind != "X":
            target = self._open[record.file]
            if isinstance(target, str):
                self._sync_folder(target)
            elif record.kind == "S":
                target.sync()
            else:
                target.pending.append((record.first, record.body) if record.kind == "W" else record.first)

    @property
    def at_risk(self) -> bool:
        """True where something that programs see would not outlive a cut for certain."""
        kept = (file for path, file in self._seen.items() if not path.endswith(_SHARED_MEMORY))
        return bool(self._moves) or any(file.pending for file in kept)

    def after_cut(self, rng: np.random.Generator) -> dict[str, bytes]:
        """One of the states the disk may be in if power fails now: path to content."""
        names = dict(self._durable)
        for gone, come, file in _some(self._moves, rng):
            names.pop(gone, None)
            if come and file is not None:
                names[come] = file
        return {path: bytes(_torn(file, rng)) for path, file in names.items() if not path.endswith(_SHARED_MEMORY)}

    def _opened(self, record: Record) -> None:
        path = os.fsdecode(record.body)
        if path == self._folder or os.path.dirname(path) != self._folder:
            self._open[record.file] = path
            return
        if not record.first or path not in self._seen:
            self._seen[path] = _File(bytearray())
            self._moves.append(("", path, self._seen[path]))
        elif record.second:
            self._seen[path].pending.append(0)
        self._open[record.file] = self._seen[path]

    def _moved(self, record: Record) -> None:
        gone, _, come = os.fsdecode(record.body).partition("\0")
        file = self._seen.get(gone)
        if record.kind == "L":
            gone = ""
        self._seen.pop(gone, None)
        if come and file is not None:
            self._seen[come] = file
        self._moves.append((gone, come, file))

    def _sync_folder(self, path: str) -> None:
        if path == self._folder:
            self._durable, self._moves = dict(self._seen), []


def _some(changes: list, rng: np.random.Generator) -> Iterator:
    """Some of the changes that were not synced: none, all, the first ones, or any."""
    kind = rng.integers(4)
    if kind == 0:
        return iter(())
    if kind == 1:
        return iter(changes)
    if kind == 2:
        return iter(changes[: int(rng.integers(len(changes) + 1))])
    return (change for change in changes if rng.random() < 0.5)


def _torn(file: _File, rng: np.random.Generator) -> bytearray:
    content = bytearray(file.durable)
    pieces: list[tuple[int, bytes] | int] = []
    for change in file.pending:
        if isinstance(change, int):
            pieces.append(change)
            continue
        at, body = change
        # Cut where sectors of the disk begin, not where the write does.
        edges = [at, *range((at // _SECTOR + 1) * _SECTOR, at + len(body), _SECTOR), at + len(body)]
        pieces += [(a, body[a - at : b - at]) for a, b in pairwise(edges)]
    for piece in _some(pieces, rng):
        _apply(content, piece)
    return content
