"""Key frames of videos: which, when, and what a damaged or hostile file gives."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import av
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from made_up_video import write_video

from edge_claid.errors import BadImageError
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.frames.key_frames import expected_frames, key_frames
from edge_claid.frames.reading import read_picture


def times(path: Path, every: float, kept: bool = True) -> list[float]:
    return [round(seconds, 3) for seconds, frame in key_frames(str(path), every) if (frame is not None) == kept]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_one_frame_for_each_interval(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a.{suffix}", [1, 2, 3, 4])
    assert times(path, 1.0) == [0.0, 1.0, 2.0, 3.0]
    assert times(path, 2.0) == [0.0, 2.0]
    assert expected_frames(str(path), 1.0) >= 4


def test_near_duplicates_are_left_out_and_what_comes_back_is_not(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [1, 1, 1, 2, 2, 1])
    assert times(path, 1.0) == [0.0, 3.0, 5.0]
    assert times(path, 1.0, kept=False) == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_frame_is_found_again_by_its_name(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a b#c.{suffix}", [1, 2, 3])
    for seconds, frame in key_frames(str(path), 1.0):
        again = read_picture(f"{path}#t={seconds:.3f}")
        np.testing.assert_array_equal(again.pixels, frame.pixels)
        assert again.name == f"{path}#t={seconds:.3f}"
    with pytest.raises(BadImageError, match="no frame at 77"):
        read_picture(f"{path}#t=77.000")


def test_a_cut_video_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [1, 2, 3, 4, 5, 6], size=(192, 128))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    given = []
    with pytest.raises(BadImageError, match=r"damaged .*what could be decoded is kept"):
        given.extend(key_frames(str(path), 1.0))
    assert 1 <= len(given) < 6


def test_damage_in_the_middle_does_not_end_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [1, 2, 3, 4], size=(192, 128))
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = bytes(400)
    path.write_bytes(content)
    given = []
    with contextlib.suppress(BadImageError):
        given.extend(key_frames(str(path), 1.0))
    assert len(given) >= 2


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 5000, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"],
)
def test_what_is_no_video_is_refused_and_names_no_other_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match="not a video"):
        list(key_frames(str(path), 1.0))
    assert expected_frames(str(path), 1.0) == 0


def test_a_title_that_is_no_text_keeps_no_video_from_opening(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "made.mp4"), "w") as container:
        container.metadata["title"] = "no latin"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / "made.mp4").read_bytes()
    assert content.count(b"no latin") == 1
    (tmp_path / "clip.mp4").write_bytes(content.replace(b"no latin", b"no \xff\xfetin"))
    assert [seconds for seconds, _ in key_frames(str(tmp_path / "clip.mp4"), 1.0)] == [0.0]


def test_frames_are_bounded_before_they_are_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [1])
    with pytest.raises(BadImageError, match="too large"):
        list(key_frames(str(path), 1.0, ReadLimits(pixels=1000)))


def test_a_fuzzed_video_never_raises_anything_else(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", [1, 2]).read_bytes()
    rng = np.random.default_rng(3)
    fuzzed = tmp_path / "f.mp4"
    refused = 0
    for _ in range(40):
        broken = bytearray(content)
        for _ in range(int(rng.integers(1, 40))):
            broken[rng.integers(0, len(broken))] = rng.integers(0, 256)
        fuzzed.write_bytes(broken)
        try:
            list(key_frames(str(fuzzed), 0.5))
        except BadImageError:
            refused += 1
    assert refused
