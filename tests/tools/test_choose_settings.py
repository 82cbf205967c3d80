"""The tool that makes the tables of choices."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edge_claid.config import Settings


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    file = Path(__file__).resolve().parents[2] / "tools" / "choose_settings.py"
    spec = importlib.util.spec_from_file_location("choose_settings", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_choice_has_the_default_among_its_rows(tool):
    for choice, rows in tool.CHOICES.items():
        assert len({row.name for row in rows}) == len(rows) > 1, choice
        plain = [row for row in rows if row.settings == Settings() and row.treatment is tool.in_its_picture]
        assert plain, choice
