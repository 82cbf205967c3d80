"""Pictures, clips and enrolments that the tests of the server are made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from colour_pipeline import COLOURS, ColourPipeline

from edge_claid.frames.source import open_source
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.store import Gallery


def jpeg(pixels: Any) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def enrol(path: Path, source: Path, label: str | None = None, id: str = "colours") -> None:
    """As another process would: the command line beside the server."""
    with Gallery.open(path, "create") as store:
        enroll(store, [open_source(source)], ColourPipeline(id=id), EnrollOptions(Labels(label)))


def made_clip(path: Path, frames: int, rate: int = 10) -> Path:
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
