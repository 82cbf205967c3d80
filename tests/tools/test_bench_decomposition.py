"""The benchmark of the decomposition runs on any golden file and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_decomposition.py"


def test_another_golden_file_is_measured(shared_data, tmp_path):
    stored = np.load(shared_data / "golden" / "claid_golden.npz")
    entries = json.loads(bytes(stored["index_json"]).decode())
    entry = next(entry for entry in entries if entry["key"].startswith("final_32"))
    part = {name: stored[name] for name in stored.files if name.startswith(entry["key"] + "/")}
    index = np.frombuffer(json.dumps([entry]).encode(), np.uint8)
    np.savez(tmp_path / "other.npz", index_json=index, **part)
    command = [sys.executable, TOOL, "--golden", tmp_path / "other.npz", "--repeats", "2", "--no-peers", "--no-growth"]
    command += ["--results", tmp_path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result == json.loads((tmp_path / "decomposition.json").read_text())
    assert result["parity"] == {"identical": 1, "of": 1}
    assert result["deterministic"] is True
    assert set(result["ms"]) == {"32x32x384", "45x60x768"}
    assert result["ratio_to_authors"]["32x32x384"] > 1
    assert 0.5 < result["quality"]["mean_best_iou_integer_to_float"] <= 1
    assert result["steps_ms"]["32x32x384"]["gram"]["ms"] > 0
