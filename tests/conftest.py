"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real pictures and golden outputs; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("EDGE_CLAID_TEST_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "data" / "dev" / "gt.json").is_file():
        pytest.skip(f"no test data in {folder}: set EDGE_CLAID_TEST_DATA to a folder that holds data/ and golden/")
    return folder
