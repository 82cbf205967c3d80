"""Which process holds a gallery's write lock, as the kernel tells it: nothing is left behind by one that was killed."""

from __future__ import annotations

import os

# The write lock of SQLite's write-ahead log is one byte of the shared-memory file: UNIX_SHM_BASE + WAL_WRITE_LOCK,
# see "WAL-mode File Format" §2.3.2 of SQLite's documentation.
_WRITE_LOCK_BYTE = 120
# A rollback journal is used until the first commit: pending, reserved and shared bytes of the file itself.
_PENDING_BYTE, _SHARED_END = 0x40000000, 0x40000000 + 512


def writer_of(path: str) -> str:
    """Who writes, in words: ``edge-claid gallery compact (process 4711)``, or ``another process``."""
    # Asked of the kernel's table: to open and close the lock file here would drop this process's own locks on it.
    holders = _locks(path + "-shm", _WRITE_LOCK_BYTE, _WRITE_LOCK_BYTE) or _locks(path, _PENDING_BYTE, _SHARED_END)
    if not holders:
        return "another process"
    if holders[0] == os.getpid():
        return "another thread of this process"
    return f"{_command(holders[0])} (process {holders[0]})"


def _locks(path: str, first: int, last: int) -> list[int]:
    """Processes that hold a write lock on some of these bytes."""
    try:
        status = os.stat(path)
        with open("/proc/locks", encoding="ascii") as table:
            lines = [line.split() for line in table]
    except OSError:
        return []
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    found = []
    for fields in lines:
        # 3: POSIX  ADVISORY  WRITE 4711 fe:00:1835039 120 120; a waiting one has "->" after its number.
        if len(fields) != 8 or fields[3] != "WRITE" or fields[5] != wanted or int(fields[4]) <= 0:
            continue
        end = last if fields[7] == "EOF" else int(fields[7])
        if int(fields[6]) <= last and end >= first:
            found.append(int(fields[4]))
    return found


def _command(process: int) -> str:
    """The program and its verb. Its other arguments stay private: a source may carry a password."""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            words = [os.path.basename(os.fsdecode(word)) for word in file.read().split(b"\0") if word]
    except OSError:
        return "another program"
    for place, word in enumerate(words[:4]):
        if word in ("edge-claid", "edge_claid", "__main__.py"):
            verbs = [verb for verb in words[place + 1 : place + 4] if verb.isascii() and verb.isalpha()]
            return " ".join(["edge-claid", *verbs[: 2 if verbs[:1] == ["gallery"] else 1]])
    return words[0] if words else "another program"
