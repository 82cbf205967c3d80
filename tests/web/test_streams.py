"""The live picture over real sockets: many watchers, slow ones, and ones that have stopped reading."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from web_world import made_clip, wait_for

from edge_claid.live.answer import FrameAnswer
from edge_claid.records import Frame
from edge_claid.web import listening
from edge_claid.web.live_view import LiveView
from edge_claid.web.uploads import frame_of


def messages(answer: httpx.Response) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Facts and picture, one message after the other."""
    waiting = b""
    for part in answer.iter_raw():
        waiting += part
        while len(waiting) >= 8:
            facts, picture = struct.unpack(">II", waiting[:8])
            if len(waiting) < 8 + facts + picture:
                break
            yield json.loads(waiting[8 : 8 + facts]), waiting[8 + facts : 8 + facts + picture]
            waiting = waiting[8 + facts + picture :]


def test_pictures_come_with_their_own_boxes(served: Callable[..., str], clip: Path) -> None:
    seen = []
    with httpx.stream("GET", served(source=str(clip)) + "/api/live", timeout=30) as answer:
        for facts, picture in messages(answer):
            if picture:
                assert frame_of(picture).size == tuple(facts["size"]) == (320, 240)
                seen.append(facts["frame"])
            if len(seen) == 5:
                break
    assert facts["state"] == "running"
    assert facts["latency_ms"] > 0
    assert {"id", "label", "match", "box", "state"} <= facts["tracks"][0].keys()
    assert seen == sorted(set(seen))


def test_one_that_stops_reading_is_dropped_and_the_others_go_on(
    served: Callable[..., str], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "STALLED_SECONDS", 2)
    address = served(source=str(clip))
    host, port = address.removeprefix("http://").split(":")
    with closing(socket.socket()) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((host, int(port)))
        stalled.sendall(b"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_for(lambda: watchers(address) == 1)
        with httpx.stream("GET", address + "/api/live", timeout=30) as answer:
            pictures = (picture for _, picture in messages(answer) if picture)
            assert len(next(pictures)) > 1000
            if not hasattr(socket, "TCP_USER_TIMEOUT"):
                pytest.skip("this system has no TCP_USER_TIMEOUT")
            wait_for(lambda: next(pictures) and watchers(address) == 1, 60)
    wait_for(lambda: watchers(address) == 0)


def watchers(address: str) -> int:
    text = httpx.get(address + "/metrics").text
    return int(next(line for line in text.splitlines() if line.startswith("edge_claid_watchers ")).split()[1])


def test_a_slow_watcher_skips_to_the_newest() -> None:
    view = LiveView("starting")

    def answered(number: int) -> None:
        view.frame(FrameAnswer(Frame(np.full((16, 16, 3), number, np.uint8)), number, number / 10, 1.0, ()))

    async def watch() -> list[int]:
        view.attach()
        seen = []
        answered(0)
        async for message in view.messages():
            facts, _ = struct.unpack(">II", message[:8])
            seen.append(json.loads(message[8 : 8 + facts])["frame"])
            if len(seen) == 3:
                return seen
            for number in range(seen[-1] + 1, seen[-1] + 6):
                answered(number)
            await asyncio.sleep(0.01)
        return seen

    assert asyncio.run(watch()) == [0, 5, 10]


def test_mjpeg_for_other_programs(served: Callable[..., str], clip: Path) -> None:
    with httpx.stream("GET", served(source=str(clip)) + "/api/live.mjpg", timeout=30) as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        got = b""
        for part in answer.iter_raw():
            got += part
            if got.count(b"--frame\r\n") == 3:
                break
    head, content = got.split(b"--frame\r\n")[1].split(b"\r\n\r\n", 1)
    assert b"image/jpeg" in head
    assert frame_of(content.removesuffix(b"\r\n")).size == (320, 240)


def test_a_clip_that_has_ended_can_be_played_again(served: Callable[..., str], tmp_path: Path) -> None:
    address = served(source=str(made_clip(tmp_path / "short.mp4", 5)))
    wait_for(lambda: httpx.get(address + "/api/state").json()["state"] == "ended")
    assert httpx.post(address + "/api/live/start").json() == {"state": "starting"}
    wait_for(lambda: httpx.get(address + "/api/state").json()["state"] == "ended")
    assert "edge_claid_frames_processed_total 5" in httpx.get(address + "/metrics").text


def test_what_becomes_of_the_source_is_in_the_log_without_its_password(
    served: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        with caplog.at_level("INFO"):
            address = served(source=f"rtsp://bob:s3cret@127.0.0.1:{nobody.getsockname()[1]}/cam")
            wait_for(lambda: "source reconnecting: attempt 1: connection refused" in caplog.messages)
    assert httpx.get(address + "/api/state").json()["source"].startswith("rtsp://***@127.0.0.1:")
    assert "s3cret" not in caplog.text


def test_without_a_source_there_is_no_stream(served: Callable[..., str]) -> None:
    refused = httpx.get(served() + "/api/live")
    assert refused.status_code == 404
    assert "--source" in refused.json()["error"]
