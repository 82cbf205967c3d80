"""A small round of kills of a real RTSP server; tools/rtsp_kills.py runs hundreds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def test_a_round_of_kills_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOOLS)
    if sys.platform != "linux":
        pytest.skip("what a process holds is read from /proc")
    import rtsp_kills

    if (reason := rtsp_kills.missing()) is not None:
        pytest.skip(reason)
    result = rtsp_kills.play(4, seed=1)
    assert result["kills"] == 4
    assert result["not_found_again"] == 0
    assert result["found_again"] + result["kills_while_reconnecting"] == 4
    assert result["leaked"] == {"threads": 0, "descriptors": 0, "children": 0}
    assert result["crashes"] == 0
    assert sum(result["reasons"].values()) >= result["found_again"]
