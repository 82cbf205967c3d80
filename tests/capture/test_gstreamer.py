"""GStreamer pipelines through the capture process; the system's libraries, no camera."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge_claid.capture import gstreamer
from edge_claid.capture.grabber import CaptureError
from edge_claid.errors import MachineError, SourceLostError, UsageError
from edge_claid.frames import Patience, ReadLimits, open_stream
from edge_claid.records import SourceEvent, TimedFrame

PATIENT = Patience(open=20.0, first=40.0, stalled=20.0, retry=0.1, longest=0.5)


@pytest.fixture(autouse=True)
def _has_gstreamer() -> None:
    try:
        ctypes.CDLL("libgstapp-1.0.so.0")
    except OSError:
        pytest.skip("no GStreamer on this machine: apt install gstreamer1.0-plugins-base gstreamer1.0-plugins-good")


def read_all(uri: str, most: int = 1000, **options: Any) -> list[TimedFrame | SourceEvent]:
    """What a source gives until it ends, or until so many answers."""
    given = []
    with open_stream(uri, patience=PATIENT, **options) as stream:
        while len(given) < most:
            answer = stream.read(60.0)
            assert answer is not None
            given.append(answer)
            if isinstance(answer, SourceEvent) and answer.state == "ended":
                break
    return given


@pytest.mark.parametrize("size", [(320, 240), (321, 241), (50, 40), (17, 16)])
def test_pixels_of_any_size(size: tuple[int, int]) -> None:
    caps = f"video/x-raw,width={size[0]},height={size[1]},framerate=10/1"
    *frames, end = read_all(f'gst:"videotestsrc pattern=red num-buffers=3 ! {caps}"')
    assert isinstance(end, SourceEvent)
    assert frames
    for frame in frames:
        assert frame.frame.size == size
        assert (frame.frame.pixels == (255, 0, 0)).all()


def test_what_gstreamer_quotes_of_a_pipeline_keeps_its_secrets() -> None:
    for pattern in ("rtsp://bob:s3cret@host/x", "password=s3cret"):
        with pytest.raises(UsageError, match="could not set property") as refused:
            read_all(f'gst:"videotestsrc pattern={pattern}"')
        assert "s3cret" not in str(refused.value)


def test_live_source_gives_newest_frames() -> None:
    frames = read_all("gst:videotestsrc is-live=true ! video/x-raw,framerate=30/1", most=10)
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))
    captured = [frame.captured for frame in frames]
    assert all(one < other for one, other in itertools.pairwise(captured))


def test_one_frame_is_given_before_the_end() -> None:
    frame, end = read_all("gst:videotestsrc pattern=blue num-buffers=1")
    assert (frame.frame.pixels == (0, 0, 255)).all()
    assert end.state == "ended"


def test_frames_that_change_size() -> None:
    parts = [f"videotestsrc num-buffers=5 ! video/x-raw,width={w},height=48,framerate=10/1 ! c." for w in (64, 128)]
    *frames, _ = read_all(f"gst:{' '.join(parts)} concat name=c")
    assert [width for width, _ in itertools.groupby(frame.frame.size[0] for frame in frames)] == [64, 128]


def test_the_end_of_a_live_source_is_a_loss() -> None:
    answers = read_all("gst:videotestsrc is-live=true num-buffers=2 ! video/x-raw,framerate=10/1", most=8)
    states = [answer.state for answer in answers if isinstance(answer, SourceEvent)]
    assert states[:3] == ["lost", "reconnecting", "back"]


def test_an_own_sink_is_taken_off() -> None:
    answers = read_all("gst:videotestsrc num-buffers=2 ! videoconvert ! appsink drop=true")
    assert isinstance(answers[0], TimedFrame)


@pytest.mark.parametrize(
    ("pipeline", "error", "message"),
    [
        ("no-such-element ! x", MachineError, "no element"),
        ("videotestsrc ! ! x", UsageError, "syntax error"),
        ("videotestsrc pattern=no-such", UsageError, "pattern"),
        ("filesrc location=/no/such/file ! decodebin", SourceLostError, "No such file|not found|no such"),
        ("videotestsrc ! video/x-raw,width=-5", UsageError, "could not link"),
        ("audiotestsrc", UsageError, "could not link"),
    ],
)
def test_what_cannot_run(pipeline: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"(?i){message}"):
        read_all(f"gst:{pipeline}")


def test_csi_without_its_source() -> None:
    if gstreamer.has_element("nvarguscamerasrc"):
        pytest.skip("this machine has NVIDIA's camera source")
    with pytest.raises(MachineError, match="nvarguscamerasrc"):
        read_all("csi://0")


def test_frames_beyond_the_limits() -> None:
    with pytest.raises(SourceLostError, match="320x240"):
        read_all("gst:videotestsrc", limits=ReadLimits(pixels=320 * 239))


def test_the_shell_sees_nothing(tmp_path: Path) -> None:
    with pytest.raises((UsageError, MachineError, SourceLostError)):
        read_all(
            f"gst:videotestsrc ! fakesink; touch {tmp_path}/made; $(touch {tmp_path}/made) `touch {tmp_path}/made`"
        )
    assert not list(tmp_path.iterdir())


def test_passwords_are_not_in_the_list_of_processes() -> None:
    with open_stream("gst:videotestsrc is-live=true name=s3cret", patience=PATIENT) as stream:
        while not isinstance(stream.read(60.0), TimedFrame):
            pass
        arguments = Path(f"/proc/{stream._capture._process.pid}/cmdline").read_bytes()  # type: ignore[attr-defined]
    assert b"edge_claid" in arguments
    assert b"s3cret" not in arguments


def test_a_machine_without_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    gstreamer._library.cache_clear()
    try:
        assert not gstreamer.has_element("videotestsrc")
        with pytest.raises(CaptureError, match="apt install") as missing:
            gstreamer.GStreamerGrabber({"pipeline": "x", "most_pixels": 1, "open_seconds": 1}).open()
        assert missing.value.kind == "machine"
    finally:
        gstreamer._library.cache_clear()


def test_the_capture_process_ends_with_its_parent() -> None:
    code = (
        "import os, sys; from edge_claid.frames import open_stream;"
        "stream = open_stream('gst:videotestsrc is-live=true').__enter__(); stream.read(60.0);"
        "print(stream._capture._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -9
    wait_for_end(int(done.stdout))


def wait_for_end(process: int) -> None:
    """Wait until a process that is no child of this one is gone (or a zombie that nobody buries)."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {process} lives on")
