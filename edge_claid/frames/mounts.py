"""Media that are mounted below a folder, and waiting for one to come or go.

The kernel tells a change of the mount table through ``poll`` on /proc/self/mountinfo, whoever mounted (udisks, udev
with systemd-mount, fstab, a hand); no library and no rights are needed. udev's own event comes before a medium is
mounted, when there is nothing to read yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from typing import IO

_TABLE = "/proc/self/mountinfo"
# File systems that hold the kernel's own things.
_PSEUDO = frozenset(
    [
        *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf"),
        *("mqueue", "hugetlbfs", "configfs", "pstore", "autofs", "binfmt_misc", "fusectl", "nsfs", "efivarfs"),
    ]
)


def mounts_below(folder: str, table: str = _TABLE) -> list[str]:
    """Mount points below a folder, sorted; empty where the system does not tell (only Linux does)."""
    top = os.path.join(os.path.realpath(folder), "")
    found = set()
    with contextlib.suppress(OSError), open(table, "rb") as file:
        for line in file:
            fields, _, medium = line.partition(b" - ")
            parts = fields.split()
            point = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 255]), parts[4]))
            if point.startswith(top) and os.fsdecode(medium.split(b" ", 1)[0]) not in _PSEUDO:
                found.add(point)
    return sorted(found)


class MountChanges:
    """Sleeps until the mount table changes, ``wake`` is called or the time is over. Use in a ``with`` block."""

    def __init__(self) -> None:
        self._table: IO[bytes] | None = None
        self._woken = threading.Event()

    def __enter__(self) -> MountChanges:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        if hasattr(select, "poll"):
            with contextlib.suppress(OSError):
                self._table = open(_TABLE, "rb")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reader)
        os.close(self._writer)
        if self._table is not None:
            self._table.close()

    def wake(self) -> None:
        """End the present wait, or the next one; safe in a signal handler."""
        self._woken.set()
        with contextlib.suppress(OSError):
            os.write(self._writer, b".")

    def wait(self, seconds: float) -> bool:
        """True where the mount table has changed since the last wait."""
        if self._table is None:
            self._woken.wait(seconds)
            self._woken.clear()
            return False
        poll = select.poll()
        poll.register(self._table, select.POLLERR | select.POLLPRI)
        poll.register(self._reader, select.POLLIN)
        ready = dict(poll.poll(max(0.0, seconds) * 1000))
        if self._reader in ready:
            os.read(self._reader, 4096)
        return self._table.fileno() in ready
