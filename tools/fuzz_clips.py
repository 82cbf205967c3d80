"""Small valid clips in every container that is read, for fuzzing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import numpy as np

FRAMES = 12
_KINDS = (
    ("mp4", "libx264"), ("mp4", "mpeg4"), ("mkv", "libx264"), ("webm", "libvpx"), ("avi", "mjpeg"), ("avi", "mpeg4"),
    ("ts", "mpeg2video"), ("ts", "libx264"), ("mov", "mjpeg"), ("flv", "flv"), ("mpg", "mpeg1video"),
)  # fmt: skip


def sample_clips() -> list[bytes]:
    """Clips of some frames of coloured squares; what this FFmpeg cannot write is left out."""
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in _KINDS:
            if codec in av.codecs_available:
                clips.append(_clip(Path(folder) / f"clip.{suffix}", codec))
    return clips


def _clip(path: Path, codec: str) -> bytes:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(FRAMES):
            squares = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(squares, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()
