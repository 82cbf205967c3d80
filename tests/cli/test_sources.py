"""``edge-claid sources`` on a machine without a camera, and with one."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from edge_claid.cli import sources
from edge_claid.cli.app import app
from edge_claid.frames.cameras import Camera, CameraFormat


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> list[Camera]:
    found: list[Camera] = []
    monkeypatch.setattr(sources, "v4l2_cameras", lambda: list(found))
    return found


def test_none(cameras: list[Camera]) -> None:
    done = CliRunner().invoke(app, ["sources"])
    assert done.exit_code == 0
    assert done.stdout == "no camera on this machine\n"
    done = CliRunner().invoke(app, ["sources", "--json"])
    assert (done.exit_code, done.stdout) == (0, "")


def test_listed(cameras: list[Camera]) -> None:
    sizes = (CameraFormat("mjpeg", (1280, 720), (30.0, 29.97)), CameraFormat("yuyv422", (640, 480)))
    stable = "v4l2:///dev/v4l/by-id/usb-1"
    cameras.append(Camera("v4l2:///dev/video0", "Webcam", "uvcvideo", stable, formats=sizes))
    cameras.append(Camera("v4l2:///dev/video1", "video1", problem="permission denied"))
    done = CliRunner().invoke(app, ["sources"])
    assert done.stdout.splitlines() == [
        "v4l2:///dev/video0  Webcam  [uvcvideo]",
        f"  the same camera wherever it is plugged in: {stable}",
        "  ?size=1280x720&format=mjpeg  30, 29.97 frames a second",
        "  ?size=640x480&format=yuyv422",
        "v4l2:///dev/video1  video1",
        "  permission denied",
    ]
    lines = [json.loads(line) for line in CliRunner().invoke(app, ["sources", "--json"]).stdout.splitlines()]
    assert [line["uri"] for line in lines] == ["v4l2:///dev/video0", "v4l2:///dev/video1"]
    assert lines[0]["formats"][0] == {"format": "mjpeg", "size": [1280, 720], "rates": [30.0, 29.97]}
    assert lines[1]["problem"] == "permission denied"


def test_sensors_of_a_jetson_are_listed_as_csi(cameras: list[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "has_element", lambda name: name == "nvarguscamerasrc")
    cameras.append(Camera("v4l2:///dev/video0", "imx219", "tegra-video"))
    assert "csi://0  imx219  [csi]\n" in CliRunner().invoke(app, ["sources"]).stdout
