"""Puts file_faults.c between this program and its files, and tells it what to do."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("file_faults.c")
_BUILT = "FILE_FAULTS_BUILT"

WRITE, SYNC, READ, OPEN = 1, 2, 4, 8


def load() -> ctypes.CDLL:
    """The layer's functions. Compiles it and starts this program anew with it where that has yet to be done."""
    built = os.environ.pop(_BUILT, None)
    if built is None:
        _start_with_it()
    assert built is not None
    del os.environ["LD_PRELOAD"]
    shutil.rmtree(os.path.dirname(built))
    layer = ctypes.CDLL(None)
    layer.faults_record.argtypes = [ctypes.c_char_p, ctypes.c_int]
    layer.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    layer.faults_seen.restype = ctypes.c_long
    return layer


def compiler() -> str | None:
    """A C compiler, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def _start_with_it() -> None:
    built = os.path.join(tempfile.mkdtemp(), "file_faults.so")
    command = [compiler() or "cc", "-O2", "-shared", "-fPIC", "-o", built, str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    environment = os.environ | {"LD_PRELOAD": built, _BUILT: built}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)
