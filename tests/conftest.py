"""Fixtures shared by all tests."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# A shell that starts the suite in the background has it, and every process that it starts, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real pictures and golden outputs; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("EDGE_CLAID_TEST_DATA", REPOSITORY.parent / "shared"))
    # A machine with a GPU has the golden tokens alone; see tools/gpu_check.sh.
    if not any((folder / name).is_file() for name in ("data/dev/gt.json", "golden/claid_golden.npz")):
        pytest.skip(f"no test data in {folder}: set EDGE_CLAID_TEST_DATA to a folder that holds data/ and golden/")
    return folder


@pytest.fixture
def bound_by_permissions() -> Iterator[None]:
    """This thread and what it starts meet the permissions of files as any user does, even where root runs the suite."""
    if os.name != "posix" or (os.geteuid() == 0 and not sys.platform.startswith("linux")):
        pytest.skip("permissions bind nobody here")
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> int:
        result = getattr(libc, name)(*arguments)
        if result < 0:
            pytest.skip(f"root may not put its leave down here: {name}: {os.strerror(ctypes.get_errno())}")
        return result

    # Version 3 of capset(2), of this thread; then effective, permitted and inheritable, the lower half first.
    head, before = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    call("capget", head, before)
    without = (ctypes.c_uint32 * 6)(*before)
    without[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; what stays permitted can be taken up again
    bits = call("prctl", 27, 0, 0, 0, 0)
    # SECBIT_NO_SETUID_FIXUP: else access(2) asks what is permitted. SECBIT_NOROOT: else what is started has all again.
    call("prctl", 28, bits | 0b101, 0, 0, 0)
    call("capset", head, without)
    try:
        yield
    finally:
        call("capset", head, before)
        call("prctl", 28, bits, 0, 0, 0)
