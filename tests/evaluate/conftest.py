"""Tests of evaluation share colours.py, which lies beside them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from colours import colour_dataset

from edge_claid.datasets import Dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """See colours.colour_dataset."""
    return colour_dataset(tmp_path)
