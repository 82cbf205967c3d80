"""The budget's tool on a small folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_budget.py"


def test_what_is_told_holds(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    subprocess.run([sys.executable, str(TOOL), "--images", "60", "--out", str(out)], check=True, capture_output=True)
    result = json.loads(out.read_text())["told and taken"]
    assert (result["images"], result["problems"], result["stopped"]) == (60, 0, "")
    assert 0 < result["peak_mb"] < result["told_peak_mb"] * 1.1
    assert "date" in result
