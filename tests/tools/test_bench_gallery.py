"""The benchmark of a growing gallery, at small sizes, and the page that its figures go to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import durability_figures
import pytest
import results_file

TOOL = Path(durability_figures.__file__).with_name("bench_gallery.py")


def test_all_sizes_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "gallery.json"
    command = [sys.executable, str(TOOL), "--images", "1100", "100", "--regions", "3", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    growth = json.loads(out.read_text())["growth"]
    assert list(growth["by_images"]) == ["100", "1100"]
    for figures in growth["by_images"].values():
        assert min(figures.values()) > 0
    assert growth["by_images"]["1100"]["bytes"] > growth["by_images"]["100"]["bytes"]
    assert {"machine", "sqlite", "date"} <= growth.keys()


def test_the_page_takes_the_figures_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    monkeypatch.setattr(durability_figures, "PAGE", page)
    monkeypatch.setattr(results_file, "FOLDER", tmp_path)
    durability_figures.main()
    assert page.read_text() == "before\n<!-- figures -->\n<!-- end of figures -->\nafter\n"
    kinds = dict.fromkeys(("lost", "doubled", "unreadable", "failed", "hung"), 0)
    results_file.write(
        tmp_path / "power_cut.json", {"kill": {"rounds": 7, "rounds_by_operation": {"enrol": 7}, **kinds}}
    )
    durability_figures.main()
    assert "| kill -9 | 7 | 0 | 0 | 0 | 0 | 0 | 7 enrol |\n" in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
