"""A server for the tests: the real one, over a stand-in for the networks and a gallery of coloured squares."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")
sys.path.insert(0, str(Path(__file__).parent))

from colour_pipeline import COLOURS, ColourPipeline, picture_of
from web_world import enrol, jpeg, made_clip, wait_for

from edge_claid import ops
from edge_claid.live import WatchedGallery
from edge_claid.web.access import Access
from edge_claid.web.listening import listening
from edge_claid.web.running import Running


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """shop.claid with one labelled picture of each colour."""
    path = tmp_path / "shop.claid"
    for number, colour in enumerate(COLOURS):
        file = tmp_path / "photos" / f"{colour}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(jpeg(picture_of(colour, shade=number)))
    enrol(path, tmp_path / "photos")
    return path


@pytest.fixture
def running(gallery: Path) -> Iterator[Callable[..., Running]]:
    """Makes servers, ended with the test."""
    with contextlib.ExitStack() as stack:

        def make(
            source: str | None = None, host: str = "127.0.0.1", token: str | None = None, seconds: float = 0.02
        ) -> Running:
            pipeline = ColourPipeline(seconds)
            watched = stack.enter_context(WatchedGallery(str(gallery), pipeline, ops.load().code_scan))
            access = Access.for_host(host, token)
            return stack.enter_context(Running(gallery, pipeline, watched, access, source))

        yield make


@pytest.fixture
def served(running: Callable[..., Running]) -> Iterator[Callable[..., str]]:
    """Makes servers that really listen; gives their address."""
    with contextlib.ExitStack() as stack:

        def serve(**options: Any) -> str:
            made = running(**options)
            listener = stack.enter_context(listening("127.0.0.1", 0))
            thread = threading.Thread(target=made.serve, args=(listener,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(made.end)
            address = listener.getsockname()
            wait_for(lambda: _answers(address))
            return f"http://127.0.0.1:{address[1]}"

        yield serve


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 1.0).close()
    except OSError:
        return False
    return True


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip in which a blue square wanders over grey; the whole of it lasts 40 seconds."""
    return made_clip(tmp_path / "wander.mp4", 400)
