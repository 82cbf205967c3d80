"""A small round of the fuzzers of picture and gallery readers; tools/fuzz_readers.py runs large ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent.parent / "tools" / "fuzz_readers.py"


@pytest.mark.parametrize(
    ("kind", "count", "outcomes"),
    [("pictures", 150, {"read"}), ("clips", 80, {"read"}), ("galleries", 40, {"sound"}), ("logs", 25, {"sound"})],
)
def test_a_round_finds_nothing(kind: str, count: int, outcomes: set[str]) -> None:
    spec = importlib.util.spec_from_file_location("fuzz_readers", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    counts, findings = tool.run_cases(kind, 0, count)
    assert findings == []
    assert counts.total() == count
    # Some cases must get past the first check, and some must fail it, or the round proves nothing.
    assert set(counts) > outcomes
    assert counts["refused"] + counts["problems named"] > 0
