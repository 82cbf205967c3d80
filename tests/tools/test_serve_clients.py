"""A small round of the tool that puts many clients on the server."""

from __future__ import annotations

import pytest

pytest.importorskip("uvicorn", reason="the extra web is not installed")

import serve_clients


def test_every_client_gets_frames_and_nothing_is_left_open() -> None:
    found = serve_clients.measured(clients=6, stalled=2, seconds=4.0)
    assert found["frames_per_client"]["least"] > 3
    assert found["open_files"]["most"] >= found["open_files"]["before"] + 8
    assert found["open_files"]["after"] <= found["open_files"]["before"] + 2
    assert found["memory_mb"]["most"] > 30
