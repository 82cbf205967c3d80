"""RTSP against GStreamer's server: logged in, killed and started again, stopped, garbled, of another size."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tls_proxy import TlsProxy
from waiting import QUICK, next_frame, next_state

from edge_claid.errors import SourceLostError
from edge_claid.frames import open_stream
from edge_claid.records import TimedFrame

MakeServer = Callable[..., Any]


def test_newest_frames(rtsp_server: MakeServer) -> None:
    server = rtsp_server()
    with open_stream(server.url, patience=QUICK) as stream:
        frames = [next_frame(stream) for _ in range(10)]
        assert stream.live
        assert {frame.frame.size for frame in frames} == {(160, 120)}
        numbers = [frame.number for frame in frames]
        assert numbers == sorted(set(numbers))
        # A ball moves over a dark ground.
        assert any((one.frame.pixels != other.frame.pixels).any() for one, other in itertools.pairwise(frames))
        assert all(frame.frame.pixels.max() > 128 for frame in frames)
        assert abs(frames[-1].time - time.time()) < 60
        # One that looks away for a while misses frames, and is given a new one.
        dropped = stream.dropped
        time.sleep(0.5)
        late = time.monotonic()
        while (frame := next_frame(stream)).captured < late:
            frames.append(frame)
        frames.append(frame)
        assert stream.dropped > dropped
        assert stream.dropped == frame.number + 1 - len(frames)


def test_killed_and_started_again(rtsp_server: MakeServer) -> None:
    server = rtsp_server()
    with open_stream(server.url, patience=QUICK) as stream:
        next_frame(stream)
        for _ in range(2):
            server.kill()
            lost, _ = next_state(stream, "lost")
            assert lost.reason
            server.start()
            _, before = next_state(stream, "back")
            assert {event.state for event in before} == {"reconnecting"}
            assert isinstance(stream.read(), TimedFrame)


def test_another_size_after_a_restart(rtsp_server: MakeServer, rtsp_tool: Any) -> None:
    server = rtsp_server()
    with open_stream(server.url, patience=QUICK) as stream:
        assert next_frame(stream).frame.size == (160, 120)
        server.kill()
        larger = rtsp_tool.PICTURE.replace("160", "320").replace("120", "240") + rtsp_tool.ENCODED
        server._options = ("--pipeline", larger)
        server.start()
        next_state(stream, "back")
        assert next_frame(stream).frame.size == (320, 240)


def test_a_decoder_that_crashes(rtsp_server: MakeServer) -> None:
    with open_stream(rtsp_server().url, patience=QUICK) as stream:
        next_frame(stream)
        os.kill(stream._capture._process.pid, signal.SIGSEGV)
        lost, _ = next_state(stream, "lost")
        assert lost.reason == f"the capture process died of signal {signal.SIGSEGV.value}"
        next_state(stream, "back")
        next_frame(stream)


def test_given_up(rtsp_server: MakeServer) -> None:
    server = rtsp_server()
    with open_stream(server.url, max_reconnects=2, patience=QUICK) as stream:
        next_frame(stream)
        server.kill()
        with pytest.raises(SourceLostError, match="given up after 2 attempts") as given_up:
            next_state(stream, "back")
    assert given_up.value.exit_code == 7


def test_a_server_that_stops_in_the_midst(rtsp_server: MakeServer) -> None:
    server = rtsp_server()
    with open_stream(server.url, patience=replace(QUICK, stalled=2.0)) as stream:
        next_frame(stream)
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            lost, _ = next_state(stream, "lost")
            assert "for 2 s" in lost.reason
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        next_state(stream, "back")
        assert isinstance(stream.read(), TimedFrame)


@pytest.mark.parametrize("login", ["bob:s3cr%2Ft", "bob:wrong-s3cret"])
def test_login(rtsp_server: MakeServer, login: str, caplog: pytest.LogCaptureFixture) -> None:
    server = rtsp_server("--user", "bob", "--password", "s3cr/t", login=login)
    with open_stream(server.url, patience=QUICK) as stream:
        if "wrong" not in login:
            next_frame(stream)
        else:
            with pytest.raises(SourceLostError, match=r"refused \(401\)") as refused:
                next_frame(stream)
            assert "s3cr" not in str(refused.value)
        assert "s3cr" not in stream.shown
    assert "s3cr" not in caplog.text


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_encrypted(rtsp_server: MakeServer, tmp_path: Path) -> None:
    proxy = TlsProxy(rtsp_server().port, tmp_path)
    try:
        with open_stream(f"rtsps://127.0.0.1:{proxy.port}/cam", patience=QUICK) as stream:
            assert next_frame(stream).frame.size == (160, 120)
            next_frame(stream)
    finally:
        proxy.close()


def test_a_camera_that_knows_only_udp(rtsp_server: MakeServer) -> None:
    with open_stream(rtsp_server("--udp").url, patience=QUICK) as stream:
        assert next_frame(stream).frame.size == (160, 120)
        next_frame(stream)


def test_nobody_there(rtsp_server: MakeServer) -> None:
    server = rtsp_server(login="bob:s3cret")
    url = server.url
    server.kill()
    with open_stream(url, patience=QUICK) as stream, pytest.raises(SourceLostError, match="connection refused") as gone:
        next_frame(stream)
    assert "s3cret" not in str(gone.value)


def test_a_host_that_nobody_knows() -> None:
    url = "rtsp://bob:s3cret@no-such-host.invalid/cam"
    with open_stream(url, patience=QUICK) as stream, pytest.raises(SourceLostError) as gone:
        next_frame(stream)
    assert "no address is known of host no-such-host.invalid" in str(gone.value)
    assert "s3cret" not in str(gone.value)


def test_a_path_the_server_does_not_have(rtsp_server: MakeServer) -> None:
    server = rtsp_server()
    url = server.url.replace("/cam", "/none")
    with open_stream(url, patience=QUICK) as stream, pytest.raises(SourceLostError, match="404"):
        next_frame(stream)


def test_garbled_data(rtsp_server: MakeServer, rtsp_tool: Any) -> None:
    garbled = rtsp_tool.ENCODED.replace(" ! rtph264pay", " ! breakmydata probability=0.002 ! rtph264pay")
    assert garbled != rtsp_tool.ENCODED
    server = rtsp_server("--pipeline", rtsp_tool.PICTURE + garbled)
    with open_stream(server.url, patience=QUICK, wait=True) as stream:
        for _ in range(60):
            frame = next_frame(stream)
            assert frame.frame.pixels.ndim == 3


@pytest.fixture
def listener() -> Iterator[Callable[[bytes], str]]:
    """A server that sends some bytes to whoever comes and then says nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def serve(answer: bytes) -> str:
            def accept() -> None:
                try:
                    while True:
                        connection, _ = server.accept()
                        connections.append(connection)
                        connection.sendall(answer)
                except OSError:
                    return

            threading.Thread(target=accept, daemon=True).start()
            return f"rtsp://bob:s3cret@127.0.0.1:{server.getsockname()[1]}/cam"

        yield serve
        server.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        os.urandom(100_000),
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 9999999999\r\n\r\n",
        b"$\0\xff\xff" * 9999,
    ],
    ids=["silence", "noise", "endless", "packets"],
)
def test_what_is_no_rtsp_server(listener: Callable[[bytes], str], answer: bytes) -> None:
    with open_stream(listener(answer), patience=replace(QUICK, open=2.0, first=20.0)) as stream:
        with pytest.raises(SourceLostError) as refused:
            next_frame(stream)
        assert "s3cret" not in str(refused.value)
