"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
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
