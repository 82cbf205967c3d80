"""A server for the tests: the real one, over a stand-in for the networks and a gallery of coloured squares."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")
sys.path.insert(0, str(Path(__file__).parent))

import cv2
from colour_pipeline import COLOURS, ColourPipeline, picture_of

from edge_claid import ops
from edge_claid.frames.source import open_source
from edge_claid.gallery.enroll import EnrollOptions, enroll
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.store import Gallery
from edge_claid.live import WatchedGallery
from edge_claid.web.access import Access
from edge_claid.web.listening import listening
from edge_claid.web.running import Running


def jpeg(pixels: Any) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


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


def enrol(path: Path, source: Path, label: str | None = None, id: str = "colours") -> None:
    """As another process would: the command line beside the server."""
    with Gallery.open(path, "create") as store:
        enroll(store, [open_source(source)], ColourPipeline(id=id), EnrollOptions(Labels(label)))


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


def made_clip(path: Path, frames: int, rate: int = 10) -> Path:
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            pixels = np.full((240, 320, 3), 128, np.uint8)
            x, y = round(110 + 100 * np.sin(number / 15)), round(80 + 60 * np.cos(number / 11))
            pixels[y : y + 80, x : x + 80] = COLOURS["blue"]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def wait_for(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What ``true`` gives once it gives something; fails after a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still not after {seconds:g} s")
