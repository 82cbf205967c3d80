"""Cameras for tests: a real RTSP server, and a V4L2 device made up below FFmpeg's own code."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_camera import FakeCamera

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"


@pytest.fixture(scope="session")
def rtsp_tool() -> Any:
    """The module tools/rtsp_server.py; skips where no server can run."""
    spec = importlib.util.spec_from_file_location("rtsp_server", TOOLS / "rtsp_server.py")
    assert spec is not None
    assert spec.loader is not None
    tool = sys.modules["rtsp_server"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    if (reason := tool.missing()) is not None:
        pytest.skip(reason)
    return tool


@pytest.fixture
def rtsp_server(rtsp_tool: Any) -> Iterator[Callable[..., Any]]:
    """Make RTSP servers that are killed at the end of the test."""
    servers = []

    def make(*options: str, login: str = "") -> Any:
        servers.append(rtsp_tool.RtspServer(*options, login=login))
        return servers[-1].start()

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def fake_v4l2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up driver, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("the made-up camera wants Linux with its headers and a C compiler")
    library = tmp_path_factory.mktemp("v4l2") / "fake_v4l2.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, HERE / "fake_v4l2.c", "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def fake_camera(fake_v4l2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCamera]:
    """A made-up camera; processes that this one starts see it."""
    try:
        devices = Path(tempfile.mkdtemp(prefix="edge-claid-test-", dir="/dev/shm"))
    except OSError as error:
        pytest.skip(f"no folder below /dev can be made: {error}")
    camera = FakeCamera(devices, tmp_path / "state")
    monkeypatch.setenv("FAKE_V4L2_DEVICE", str(camera.node))
    monkeypatch.setenv("FAKE_V4L2_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LD_PRELOAD", str(fake_v4l2))
    yield camera
    shutil.rmtree(devices)
