"""Short videos made for the tests."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path, scenes: list[int], fps: int = 10, size: tuple[int, int] = (96, 64), seconds_each: float = 1.0
) -> Path:
    """A video that shows, for ``seconds_each`` each, coarse noise seeded by each number of ``scenes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size = fps
        for seed in scenes:
            coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
            pixels = np.kron(coarse, np.ones((size[1] // 8, size[0] // 12, 1), np.uint8))
            for _ in range(round(fps * seconds_each)):
                for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
