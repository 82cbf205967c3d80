"""Nothing tells others what runs here: ONNX Runtime's telemetry is off before it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["edge_claid.runners.onnx_runner", "edge_claid.models.quantise", "edge_claid.cli.app"])
def test_no_number_of_this_machine_is_kept_and_no_report_queued(tmp_path: Path, name: str) -> None:
    # Where CI is set it is off anyway; what it keeps lies below the user's cache or home.
    told = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY")}
    told |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    program = f"import {name}, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", program], env=told, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
