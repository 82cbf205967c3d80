"""The source grammar and the walk over folders, with everything a stick may bring."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edge_claid.errors import BadImageError, UsageError
from edge_claid.frames import open_source, without_credentials
from edge_claid.frames.folder import PictureFiles
from edge_claid.frames.source import open_pictures
from edge_claid.frames.video import VideoFile


def picture(path: Path, value: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (value, 0, 0)).save(path, "PNG")
    return path


def relatives(source: PictureFiles) -> list[str]:
    return [file.relative for file in source.files() if not file.problem]


def test_folder_is_walked_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", "b/c/3.png", ".hidden/4.png", "$RECYCLE.BIN/5.png"):
        picture(tmp_path / name)
    source = open_source(tmp_path)
    assert relatives(source) == ["a.png", "b/1.png", "b/2.png", "b/c/3.png"]
    assert (source.name, source.whole) == (tmp_path.name, True)
    assert [frame.pixels[0, 0, 0] for frame in source] == [7] * 4


@pytest.mark.parametrize("name", [" spaces  .png", "Ünïcode-猫.png", "new\nline.png", "-dash.png", "a'b\"c.png"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    picture(tmp_path / name)
    source = open_source(tmp_path)
    assert relatives(source) == [name]
    assert len(list(source)) == 1


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        picture(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes text names only")
    source = open_source(tmp_path)
    assert relatives(source) == [name]
    assert len(list(source)) == 1


def test_loops_and_dead_links_end(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere.png")
    files = {file.relative: file for file in open_source(tmp_path).files()}
    assert sorted(files) == ["a/1.png", "dead.png", "self"]
    assert "leads nowhere" in files["dead.png"].problem
    assert not files["dead.png"].skipped
    assert files["self"].skipped


def test_pipes_and_sockets_are_skipped_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(tmp_path / "s.png")[:100])
        files = list(open_source(tmp_path).files())
    assert len(files) == 2
    assert all(file.skipped and file.problem for file in files)


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_folder_without_permission_is_told_and_passed(tmp_path: Path) -> None:
    picture(tmp_path / "closed" / "1.png")
    picture(tmp_path / "open" / "2.png")
    (tmp_path / "closed").chmod(0)
    try:
        files = list(open_source(tmp_path).files())
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert [(file.relative, bool(file.problem)) for file in files] == [("closed", True), ("open/2.png", False)]


def test_a_folder_that_cannot_be_listed_is_told_and_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "closed" / "1.png")
    picture(tmp_path / "open" / "2.png")
    scandir = os.scandir

    def guarded(path: str):  # type: ignore[no-untyped-def]
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    files = [(file.relative, file.problem) for file in open_source(tmp_path).files()]
    assert files == [("closed", "permission denied"), ("open/2.png", None)]


@pytest.mark.parametrize("name", ["IMG_1.JXL", "raw.dng", "x.avif"])
def test_pictures_that_are_not_read_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"II*\0" + bytes(100))
    (file,) = open_source(tmp_path).files()
    assert "not read" in file.problem
    assert not file.skipped


def test_by_name_and_content(tmp_path: Path) -> None:
    picture(tmp_path / "no suffix")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "._a.jpg").write_bytes(b"\0\x05\x16\x07" + bytes(40))
    (tmp_path / "fake.jpg").write_text("text")
    source = open_source(tmp_path)
    fetched = {file.relative: source.fetch(file) for file in source.files()}
    assert {name for name, content in fetched.items() if content is None} == {"notes.txt", "._a.jpg"}
    with pytest.raises(BadImageError, match="not a picture"):
        source.check(fetched["fake.jpg"], "fake.jpg")


def test_paths_beyond_the_systems_limit(tmp_path: Path) -> None:
    # Built by steps, since no single call takes such a path.
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(18):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        Image.new("RGB", (20, 20)).save("deep.png")
    finally:
        os.chdir(here)
    picture(tmp_path / "z.png")
    files = list(open_source(tmp_path).files())
    assert [file.relative for file in files if not file.problem] == ["z.png"]
    assert any("too long" in (file.problem or "") for file in files)


def test_single_picture(tmp_path: Path) -> None:
    source = open_source(picture(tmp_path / "sub" / "x.png"))
    assert (source.name, relatives(source), source.whole) == ("sub", ["x.png"], False)


def test_glob(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.jpg", "b/3.png"):
        picture(tmp_path / name)
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    source = open_source(f"{tmp_path}/**/*.png")
    assert relatives(source) == ["a/1.png", "b/3.png"]
    assert source.root == str(tmp_path)
    with pytest.raises(UsageError, match="no file matches"):
        open_source(f"{tmp_path}/*.bmp")


@pytest.mark.parametrize("uri", ["missing", "0", "rtsp://user:secret@cam/1", "csi://0", "", "a\0b"])
def test_refused(uri: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_source(uri)
    assert "secret" not in str(refused.value)


def test_credentials_are_not_shown() -> None:
    assert without_credentials("rtsp://u:p@h:554/x") == "rtsp://***@h:554/x"
    assert without_credentials("rtsp://h/x") == "rtsp://h/x"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip: 1.mp4"
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "clip.mp4").rename(path)
    return path


def test_video_file(clip: Path) -> None:
    with open_source(clip) as video:
        assert isinstance(video, VideoFile)
        frames = list(video)
        again = [frame.name for frame in video]
    assert [frame.size for frame in frames] == [(64, 48)] * 6
    np.testing.assert_allclose([frame.pixels.mean() for frame in frames], 40 * np.arange(6), atol=6)
    assert [frame.name.rsplit("#", 1)[1] for frame in frames] == [f"{i / 10:.3f}" for i in range(6)]
    assert again == [frame.name for frame in frames]


def test_a_video_as_pictures_is_its_key_frames(clip: Path) -> None:
    source = open_pictures(clip, 0.2)
    (file,) = source.files()
    assert [seconds for seconds, _ in source.key_frames(file)] == pytest.approx([0.0, 0.2, 0.4])
    with pytest.raises(UsageError, match="--video-every"):
        open_pictures(clip)
    assert open_pictures(clip.parent).video_every is None


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"not a video" * 50)
    with pytest.raises(BadImageError, match=r"x\.mp4"), open_source(tmp_path / "x.mp4"):
        pass
