"""Without torch the verb says what to install; nothing else of the program needs it."""

from __future__ import annotations

import importlib
import sys

import pytest
from typer.testing import CliRunner

from edge_claid.cli.app import app
from edge_claid.errors import MachineError


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[:2] == ["edge_claid", "learn"]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)


def test_the_package_names_the_command_that_installs_it(no_torch: None) -> None:
    with pytest.raises(MachineError, match=r"pip install 'edge-claid\[learn\]'"):
        importlib.import_module("edge_claid.learn.udq")


def test_the_verb_says_so_and_its_help_works_all_the_same(no_torch: None, tmp_path) -> None:
    result = CliRunner().invoke(app, ["learn", "udq", str(tmp_path / "none.claid")])
    assert isinstance(result.exception, MachineError)
    assert result.exception.exit_code == 3
    assert "--refine" in CliRunner().invoke(app, ["learn", "udq", "--help"]).output
