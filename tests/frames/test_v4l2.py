"""V4L2 cameras: FFmpeg's own code and ours on a made-up driver. No real camera takes part."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from fake_camera import FakeCamera
from waiting import QUICK, next_frame, next_state

from edge_claid.errors import SourceLostError
from edge_claid.frames import open_stream
from edge_claid.frames.cameras import Camera, csi_cameras, v4l2_cameras


@pytest.mark.parametrize("size", [(160, 120), (320, 240)])
def test_frames_of_the_size_asked_for(fake_camera: FakeCamera, size: tuple[int, int]) -> None:
    with open_stream(f"{fake_camera.uri}?size={size[0]}x{size[1]}&rate=25", patience=QUICK) as stream:
        frames = [next_frame(stream) for _ in range(5)]
    assert {frame.frame.size for frame in frames} == {size}
    # Each picture of the made-up camera is of one grey, brighter than the one before.
    greys = [int(frame.frame.pixels[0, 0, 0]) for frame in frames]
    assert greys == sorted(greys)
    assert greys[0] < greys[-1]
    assert all((frame.frame.pixels == frame.frame.pixels[0, 0]).all() for frame in frames)


def test_unplugged_and_plugged_in_again(fake_camera: FakeCamera) -> None:
    with open_stream(fake_camera.uri, patience=QUICK) as stream:
        next_frame(stream)
        fake_camera.unplug()
        lost, _ = next_state(stream, "lost")
        assert "unplugged" in lost.reason
        next_state(stream, "reconnecting")
        fake_camera.plug()
        next_state(stream, "back")
        next_frame(stream)


def test_taken_by_another_program(fake_camera: FakeCamera) -> None:
    fake_camera.behave("b")
    with open_stream(fake_camera.uri, patience=QUICK) as stream:
        with pytest.raises(SourceLostError, match="in use by another program") as refused:
            next_frame(stream)
        assert refused.value.exit_code == 7
    with open_stream(fake_camera.uri, patience=QUICK, wait=True) as stream:
        next_state(stream, "reconnecting")
        fake_camera.behave("o")
        next_frame(stream)


def test_a_driver_that_never_answers(fake_camera: FakeCamera) -> None:
    with open_stream(fake_camera.uri, patience=replace(QUICK, stalled=1.0)) as stream:
        next_frame(stream)
        fake_camera.behave("h")
        lost, _ = next_state(stream, "lost")
        assert lost.reason == "no frame for 1 s"
        fake_camera.behave("o")
        next_state(stream, "back")
        next_frame(stream)


def test_closing_one_that_never_answers(fake_camera: FakeCamera) -> None:
    with open_stream(fake_camera.uri, patience=QUICK) as stream:
        next_frame(stream)
        fake_camera.behave("h")
        process = stream._capture._process  # type: ignore[attr-defined]
    assert process.returncode is not None


def test_waiting_for_one_that_is_not_plugged_in_yet(fake_camera: FakeCamera) -> None:
    fake_camera.unplug()
    with pytest.raises(SourceLostError, match="no such camera"):
        open_stream(fake_camera.uri)
    with open_stream(fake_camera.uri, patience=QUICK, wait=True) as stream:
        waiting, _ = next_state(stream, "reconnecting")
        assert "no such camera" in waiting.reason
        fake_camera.plug()
        next_frame(stream)


def test_what_is_no_camera() -> None:
    with open_stream("v4l2:///dev/null", patience=QUICK) as stream, pytest.raises(SourceLostError, match="no camera"):
        next_frame(stream)


def test_listed_with_formats(fake_camera: FakeCamera) -> None:
    (fake_camera.devices / "video10").write_text("no camera")
    (fake_camera.devices / "videoX").touch()
    (fake_camera.devices / "v4l" / "by-id").mkdir(parents=True)
    (fake_camera.devices / "v4l" / "by-id" / "usb-made-up").symlink_to(fake_camera.node)
    # The made-up driver lives in processes that were started with it.
    code = (
        "import dataclasses, json, sys; from edge_claid.frames.cameras import v4l2_cameras;"
        "print(json.dumps([dataclasses.asdict(c) for c in v4l2_cameras(sys.argv[1])]))"
    )
    done = subprocess.run([sys.executable, "-c", code, fake_camera.devices], capture_output=True, text=True, check=True)
    (camera,) = json.loads(done.stdout)
    assert (camera["uri"], camera["name"], camera["driver"]) == (fake_camera.uri, "A made-up camera", "fake")
    assert camera["stable"] == f"v4l2://{fake_camera.devices}/v4l/by-id/usb-made-up"
    assert camera["problem"] is None
    formats = [(entry["format"], entry["size"], entry["rates"]) for entry in camera["formats"]]
    assert formats == [
        ("yuyv422", [160, 120], [25.0, 15.0]),
        ("yuyv422", [320, 240], [25.0, 15.0]),
        ("mjpeg", [160, 120], [25.0, 15.0]),
        ("mjpeg", [320, 240], [25.0, 15.0]),
    ]


def test_nodes_that_cannot_be_opened_are_told(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "video0").mkdir()
    (camera,) = v4l2_cameras(tmp_path)
    assert "is a directory" in camera.problem


def test_csi_sensors() -> None:
    usb, front, back = (
        Camera("v4l2:///dev/video0", "usb", "uvcvideo"),
        *(
            Camera(f"v4l2:///dev/video{i}", name, "tegra-video")
            for i, name in ((1, "imx219 front"), (2, "imx219 back"))
        ),
    )
    found = csi_cameras([usb, front, back], lambda: True)
    assert [(camera.uri, camera.name, camera.problem) for camera in found] == [
        ("csi://0", "imx219 front", None),
        ("csi://1", "imx219 back", None),
    ]
    assert all("nvarguscamerasrc" in (camera.problem or "") for camera in csi_cameras([front], lambda: False))
    assert csi_cameras([usb], lambda: pytest.fail("not asked where there is no sensor")) == []
