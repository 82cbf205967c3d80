"""``edge-claid models`` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_claid.cli import models as verbs
from edge_claid.errors import StorageError, UsageError
from edge_claid.models.cache import models_folder

RUN = "import sys; from edge_claid.cli.models import app; app()"


def models(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGE_CLAID_CACHE_DIR": str(cache), "EDGE_CLAID_OFFLINE": "1"}
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_list_is_a_table_or_json_lines(tmp_path):
    table = models(tmp_path, "list")
    assert table.returncode == 0
    assert "dinov2-s14-focus" in table.stdout
    rows = [json.loads(line) for line in models(tmp_path, "list", "--json").stdout.splitlines()]
    assert {"name", "licence", "here", "layers"} <= set(rows[0])
    assert len(rows) == len(table.stdout.splitlines()) - 1
    assert not any(row["here"] for row in rows)


def test_fetch_offline_fails_and_says_what_to_do(tmp_path):
    done = models(tmp_path, "fetch")
    assert done.returncode != 0
    assert "models import" in " ".join(done.stderr.split())


def test_an_import_goes_on_past_what_is_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(verbs, "import_path", _imported)
    done = CliRunner().invoke(verbs.app, ["import", "bad.whl", "good.whl", "worse.whl"])
    assert done.stdout == "good\n"
    assert done.stderr == "bad.whl is no file that zoo.toml pins\n"
    assert isinstance(done.exception, UsageError)
    assert "worse.whl" in str(done.exception)


def _imported(path: Path) -> list[str]:
    if path.stem != "good":
        raise UsageError(f"{path} is no file that zoo.toml pins")
    return [path.stem]


def test_a_cache_that_cannot_be_made_is_exit_9(monkeypatch):
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc, where no folder can be made")
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", "/proc/edge-claid")
    with pytest.raises(StorageError, match="EDGE_CLAID_CACHE_DIR"):
        models_folder()


def test_nothing_of_the_run_time_needs_torch():
    """Listing, opening and running networks must work where torch is not installed."""
    check = (
        "import sys; sys.modules['torch'] = None; sys.modules['timm'] = None;"
        "import edge_claid.cli.models, edge_claid.runners, edge_claid.models.network, edge_claid.models.importing"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
