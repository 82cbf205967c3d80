"""Files as streams: every frame with its time, whatever the file is like."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edge_claid.errors import BadImageError, UsageError
from edge_claid.frames import ReadLimits, Stream, open_stream
from edge_claid.records import SourceEvent, TimedFrame


def clip(path: Path, frames: int, size: tuple[int, int] = (64, 48), codec: str = "mpeg2video") -> Path:
    """A clip of 25 frames a second, each of one grey: 40, 42, ..."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            grey = np.full((size[1], size[0], 3), 40 + 2 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


def everything(stream: Stream) -> list[TimedFrame]:
    frames = []
    while isinstance(answer := stream.read(1.0), TimedFrame):
        frames.append(answer)
    assert isinstance(answer, SourceEvent)
    assert answer.state == "ended"
    assert stream.read().state == "ended"  # type: ignore[union-attr]
    return frames


@pytest.mark.parametrize(
    ("name", "frames", "size", "last"),
    [
        ("tiger.mp4", 365, (480, 360), 364 / 25),
        ("stone_sign.mp4", 83, (450, 800), 82 / 25),
        ("bottle-detection.mp4", 1189, (640, 360), 1188 / (179 / 6)),
    ],
)
def test_real_clips(shared_data: Path, name: str, frames: int, size: tuple[int, int], last: float) -> None:
    with open_stream(shared_data / "data" / "videos" / name) as stream:
        assert not stream.live
        count, before, answer = 0, -1.0, stream.read()
        while isinstance(answer, TimedFrame):
            assert answer.number == count
            assert answer.frame.size == size
            assert answer.time > before
            count, before, answer = count + 1, answer.time, stream.read()
        assert (count, stream.dropped) == (frames, 0)
        assert before == pytest.approx(last, abs=0.1)


def test_one_frame(tmp_path: Path) -> None:
    with open_stream(clip(tmp_path / "one.mp4", 1)) as stream:
        (frame,) = everything(stream)
    assert (frame.number, frame.time, frame.frame.size) == (0, 0.0, (64, 48))
    assert frame.frame.pixels.mean() == pytest.approx(40, abs=3)


def test_frames_that_change_size_and_times_that_go_back(tmp_path: Path) -> None:
    parts = [clip(tmp_path / f"{i}.ts", 10, size) for i, size in enumerate([(64, 48), (128, 96), (64, 48)])]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_stream(joined) as stream:
        frames = everything(stream)
    sizes = [size for size, _ in itertools.groupby(frame.frame.size for frame in frames)]
    assert sizes == [(64, 48), (128, 96), (64, 48)]
    assert len(frames) >= 27
    times = [frame.time for frame in frames]
    assert all(one < other for one, other in itertools.pairwise(times))
    assert times[-1] == pytest.approx(1.2, abs=0.3)


@pytest.mark.parametrize("name", ["stone_sign.mp4", "tiger.mp4"])
@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits(shared_data: Path, tmp_path: Path, name: str, seed: int) -> None:
    content = bytearray((shared_data / "data" / "videos" / name).read_bytes())
    flips = np.random.default_rng(seed).integers(2000, len(content) // 2, 200)
    for place in flips:
        content[place] ^= 1 << (place % 8)
    (tmp_path / name).write_bytes(content)
    with open_stream(tmp_path / name) as stream:
        frames = everything(stream)
    assert len(frames) > 10
    assert len({frame.frame.size for frame in frames}) == 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_off(tmp_path: Path, share: float) -> None:
    whole = clip(tmp_path / "whole.ts", 50).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[: int(share * len(whole))])
    with open_stream(tmp_path / "cut.ts") as stream:
        assert 0 < len(everything(stream)) < 50


def test_damage_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(clip(tmp_path / "x.avi", 60, codec="mpeg4").read_bytes())
    pictures = content.index(b"movi"), content.rindex(b"idx1")  # damage before that is damage of what names the codec
    for place in range(pictures[0] + 1000, pictures[1] - 1000, 40):
        content[place] ^= 0xFF
    (tmp_path / "x.avi").write_bytes(content)
    with open_stream(tmp_path / "x.avi") as stream:
        assert 0 < len(everything(stream)) < 60
    assert sum("damaged" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("content", [b"", b"not a video" * 50, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ts").write_bytes(content)
    with pytest.raises(BadImageError, match=r"x\.ts"), open_stream(tmp_path / "x.ts"):
        pass


def test_playlists_name_no_other_files(tmp_path: Path) -> None:
    clip(tmp_path / "secret.ts", 3)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path}/secret.ts\n")
    with pytest.raises(BadImageError, match="not a video"), open_stream(tmp_path / "list.mp4"):
        pass


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(BadImageError, match="no regular file"), open_stream(tmp_path / "x.mp4"):
        pass


def test_frames_beyond_the_limits(tmp_path: Path) -> None:
    limits = ReadLimits(pixels=60 * 48)
    stream = open_stream(clip(tmp_path / "x.mp4", 3), limits=limits)
    with pytest.raises(BadImageError, match="64x48 pixels are too large"), stream:
        pass


def test_pictures(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), (ord(name[-5]), 0, 0)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with open_stream(tmp_path) as stream:
        frames = everything(stream)
    assert [chr(frame.frame.pixels[0, 0, 0]) for frame in frames] == ["a", "b", "d"]
    assert [(frame.number, frame.time) for frame in frames] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    with open_stream(tmp_path / "a.png") as stream:
        assert len(everything(stream)) == 1
    with open_stream(f"{tmp_path}/*.png") as stream:
        assert len(everything(stream)) == 2


def test_nothing_to_read(tmp_path: Path) -> None:
    with open_stream(tmp_path) as stream, pytest.raises(BadImageError, match="no picture"):
        stream.read()
    with pytest.raises(UsageError, match="no such file"):
        open_stream(tmp_path / "none.mp4")
