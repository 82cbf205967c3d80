"""Fixtures for the tests of engines."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_claid.config import Settings

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "runners")]


@pytest.fixture
def quick_settings() -> Settings:
    """Settings under which networks see small pictures."""
    plain = Settings()
    return replace(plain, networks=replace(plain.networks, vit_side=140, descriptor_side=224))
