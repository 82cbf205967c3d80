"""``edge-claid serve``: what is refused at the start, and a start and end as a service sees them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_claid.cli import serve as verb
from edge_claid.cli.app import app
from edge_claid.errors import MachineError, UsageError

STARTED = """
import sys
import time
sys.path.insert(0, {tests!r})
from colour_pipeline import ColourPipeline
from contextlib import nullcontext
from edge_claid.cli import serve
serve.open_pipeline = lambda: nullcontext(ColourPipeline())
sys.argv = ["edge-claid", "serve", *{arguments!r}]
from edge_claid.cli.app import main
main()
"""


def refused(*arguments: str) -> BaseException:
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exception is not None
    return done.exception


def test_without_its_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verb.importlib.util, "find_spec", lambda name: None)
    error = refused("--gallery", str(tmp_path / "a.claid"))
    assert isinstance(error, MachineError)
    assert 'pip install "edge-claid[web]"' in str(error)


@pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="the extra web is not installed")
class TestStart:
    def test_a_port_in_use(self, tmp_path: Path) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as other:
            port = other.getsockname()[1]
            error = refused("--gallery", str(tmp_path / "a.claid"), "--port", str(port))
        assert isinstance(error, UsageError)
        assert f"port {port} is in use" in str(error)
        assert not (tmp_path / "a.claid").exists()

    def test_an_address_of_another_machine(self, tmp_path: Path) -> None:
        error = refused("--gallery", str(tmp_path / "a.claid"), "--host", "192.0.2.1")
        assert "no address of this machine" in str(error)

    def test_a_source_that_is_not_there(self, tmp_path: Path) -> None:
        error = refused("--gallery", str(tmp_path / "a.claid"), "--port", "0", "--source", str(tmp_path / "no.mp4"))
        assert isinstance(error, UsageError)
        assert "no such file" in str(error)

    def test_a_token_that_is_easily_guessed(self, tmp_path: Path) -> None:
        error = refused("--gallery", str(tmp_path / "a.claid"), "--port", "0", "--host", "0.0.0.0", "--token", "1234")
        assert "at least 12" in str(error)

    @pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
    def test_started_asked_and_ended(self, tmp_path: Path, ending: signal.Signals) -> None:
        tests = str(Path(__file__).resolve().parents[1] / "web")
        arguments = ["--gallery", str(tmp_path / "new.claid"), "--port", "0", "--host", "0.0.0.0"]
        code = STARTED.format(tests=tests, arguments=arguments)
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                lines = [server.stderr.readline() for _ in range(3)]
                assert "new and empty" in lines[0]
                port = int(lines[1].split("http://0.0.0.0:")[1].split("/")[0])
                token = lines[2].rstrip().removeprefix("token to log in with, shown this once: ")
                asked = urllib.request.Request(
                    f"http://127.0.0.1:{port}/api/state", headers={"Authorization": f"Bearer {token}"}
                )
                state = json.loads(_answered(asked))
                assert state["gallery"].pop("version")
                assert state["gallery"] == {"name": "new.claid", "images": 0, "labels": [], "pictures": "new.pictures"}
                os.kill(server.pid, ending)
                assert server.wait(30) == 130
                assert token not in server.stderr.read()
            finally:
                server.kill()  # else a failure waits for ever


def _answered(asked: urllib.request.Request) -> bytes:
    for _ in range(100):
        try:
            return urllib.request.urlopen(asked, timeout=10).read()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")
