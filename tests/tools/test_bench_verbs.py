"""The benchmark of the gallery's verbs runs at a small size and finds what it made."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import bench_verbs


def test_every_verb_is_measured_on_a_sound_gallery(tmp_path: Path) -> None:
    found = bench_verbs.measured(tmp_path, 400)
    assert found["problems"] == 0
    assert found["pages_damaged"] >= 1
    assert 0 < found["kept_after_repair"] <= 400
    timed = {name for name in found if name.endswith(("_seconds", "_ms"))}
    assert {"copy", "verify", "export", "merge", "merge_again", "repair"} == {
        name.removesuffix("_seconds") for name in timed if name.endswith("_seconds")
    }
    assert all(found[name] >= 0 for name in timed)
