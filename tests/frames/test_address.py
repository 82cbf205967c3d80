"""Addresses of live sources: taken apart, refused, and shown without their secrets."""

from __future__ import annotations

import pytest

from edge_claid.errors import SourceLostError, UsageError
from edge_claid.frames import open_stream
from edge_claid.frames.address import is_live, live_address, without_credentials


@pytest.mark.parametrize(
    "uri",
    [
        "0",
        "12",
        "v4l2:///dev/video0",
        "csi://0",
        "rtsp://h/x",
        "RTSPS://h/x",
        'gst:"a ! b"',
        "/dev/video2",
        "/dev/v4l/by-id/usb-cam-index0",
    ],
)
def test_live(uri: str) -> None:
    assert is_live(uri)


@pytest.mark.parametrize("uri", ["photos", "1.jpg", "./0", "csi", "rtsp.mp4", "-1", "http://h/x", "/dev/shm/photos"])
def test_not_live(uri: str) -> None:
    assert not is_live(uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:secret@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://host:554/x", "rtsp://host:554/x"),
        ("rtsp://user@host/x", "rtsp://***@host/x"),
        # Characters that should have been escaped must not bring a part of the password to light.
        ("rtsp://user:sec@ret@host/x", "rtsp://***@host/x"),
        ("rtsp://user:sec/ret@host/x", "rtsp://***@host/x"),
        ("rtsp://user:sec?re#t@host/x", "rtsp://***@host/x"),
        ("rtsp://host/x?user=admin&password=secret&channel=1", "rtsp://host/x?user=***&password=***&channel=1"),
        ("rtsp://host/user=admin_password=secret_channel=1.sdp", "rtsp://host/user=***"),
        ("gst:rtspsrc location=rtsp://u:secret@h/x ! a", "gst:rtspsrc location=rtsp://***@h/x ! a"),
        ("gst:rtspsrc user-id=bob user-pw=sec&ret ! a", None),
        ('gst:rtspsrc location=rtsp://h/x user-id=bob user-pw="sec ret" ! a', None),
        ("gst:souphttpsrc location=x user-pw='my \\'secret' ! a", None),
        ("gst:a location=rtsp://u:secret@h/1 ! b location=rtsp://v:secret@h/2 ! c", None),
    ],
)
def test_secrets_are_not_shown(uri: str, shown: str | None) -> None:
    found = without_credentials(uri)
    assert "sec" not in found
    assert "bob" not in found
    assert shown is None or found == shown


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://", "rtsp:///path", "rtsp://u:secret@h/\nx", "csi://", "csi://front", "csi://0?size=big",
        "csi://0?format=mjpeg", "csi://0?rate=0", "v4l2://video0", "v4l2:///dev/null?size=1280x720&speed=9",
        "v4l2:///dev/null?rate=1/0", "v4l2:///etc/passwd", "gst:", 'gst:""', "rtsp://u:secret@h:99999/x",
        "rtsp://u:secret/x@h/x", "rtsp://u:secret@h:/x", "rtsp://u:p:q",
    ],
)  # fmt: skip
def test_malformed(uri: str) -> None:
    with pytest.raises(UsageError) as refused:
        live_address(uri)
    assert "secret" not in str(refused.value)


def test_addresses_of_another_kind_are_told_from_files_and_keep_their_secrets() -> None:
    for uri in ("http://u:secret@h/video.mjpg", "rtmp://u:secret@h/*", "file:///x.mp4"):
        with pytest.raises(UsageError, match="not read here") as refused:
            open_stream(uri)
        assert "secret" not in str(refused.value)


def test_missing_camera() -> None:
    with pytest.raises(SourceLostError, match="no such camera") as refused:
        live_address("v4l2:///dev/no-such-camera")
    assert refused.value.exit_code == 7
    with pytest.raises(SourceLostError, match="9999: no such camera"):
        live_address("9999")
    with pytest.raises(SourceLostError, match="/dev/video9999: no such camera"):
        live_address("/dev/video9999")


def test_settings_of_a_camera() -> None:
    address = live_address("v4l2:///dev/null?size=1280x720&rate=30000/1001&format=mjpeg")
    assert address.settings["place"] == "/dev/null"
    assert address.settings["options"] == {"video_size": "1280x720", "framerate": "30000/1001", "input_format": "mjpeg"}


def test_pipeline_of_a_csi_camera() -> None:
    assert live_address("csi://1?size=1920x1080&rate=29.97").settings["pipeline"] == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,format=NV12,"
        "framerate=2997/100 ! nvvidconv ! video/x-raw,format=BGRx"
    )


def test_secrets_are_not_in_what_python_prints() -> None:
    address = live_address("rtsp://user:secret@host/x")
    assert address.settings["place"] == "rtsp://user:secret@host/x"
    assert "secret" not in repr(address)
