"""The watch as a process: what comes is enrolled, hooks run, SIGTERM ends it cleanly; and the unit that starts it."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edge_claid
from edge_claid.cli.durations import seconds_from_text
from edge_claid.cli.hooks import Hook
from edge_claid.cli.progress import FileProgress
from edge_claid.errors import UsageError

GALLERY_TESTS = Path(__file__).parent.parent / "gallery"
sys.path.insert(0, str(GALLERY_TESTS))

from made_up import write_picture  # noqa: E402

PROGRAM = f"""
import sys
sys.path.insert(0, {str(GALLERY_TESTS)!r})
from contextlib import contextmanager
from made_up import MadeUpPipeline, MadeUpSpace
import edge_claid.cli.enroll as enroll
from edge_claid.cli import app
from edge_claid.gallery import store

@contextmanager
def open_pipeline():
    yield MadeUpPipeline()

enroll.open_pipeline = open_pipeline
enroll.with_training = lambda options, code_bytes: options
store._space_from_bytes = MadeUpSpace.from_bytes
app.main()
"""


class Watched:
    """A watching process over ``media``, and what it has told so far."""

    def __init__(self, folder: Path):
        self.media = folder / "media"
        self.media.mkdir()
        self.gallery = folder / "shop.claid"
        self.out, self.err, self.hooks = folder / "out", folder / "err", folder / "hooks"
        hook = folder / "hook.py"
        hook.write_text(
            "import os, sys, json\n"
            "facts = {k[11:]: v for k, v in os.environ.items() if k.startswith('EDGE_CLAID_')}\n"
            f"open({str(self.hooks)!r}, 'a').write(json.dumps([sys.argv[1:], facts]) + chr(10))\n"
        )
        command = f"{sys.executable} {hook}"
        words = ["enroll", str(self.media), "--watch", "--every", "1s", "--gallery", str(self.gallery), "--json"]
        words += ["--on-done", f"{command} 'all done' ;true", "--on-error", f"{command} bad"]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stdout=out, stderr=err)

    def told(self) -> dict[str, str]:
        lines = [json.loads(line) for line in self.out.read_text().splitlines() if line.endswith("}")]
        return {os.path.basename(line["file"]): line["status"] for line in lines if "file" in line}

    def hooked(self) -> list[tuple[list[str], dict[str, str]]]:
        return [tuple(json.loads(line)) for line in self.hooks.read_text().splitlines()] if self.hooks.exists() else []

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < deadline, self.out.read_text() + self.err.read_text()
            time.sleep(0.05)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def old(path: Path) -> Path:
    os.utime(path, (time.time() - 60,) * 2)
    return path


def test_what_comes_is_enrolled_until_sigterm(watched: Watched, tmp_path: Path) -> None:
    watched.until(lambda: "watching" in watched.err.read_text())
    old(write_picture(watched.media / "a.png", 1))
    watched.until(lambda: watched.told().get("a.png") == "added")
    # One that is still being written comes only when it is whole.
    content = write_picture(tmp_path / "b.png", 2).read_bytes()
    growing = watched.media / "b.png"
    for end in range(1, len(content), max(1, len(content) // 8)):
        growing.write_bytes(content[:end])
        time.sleep(0.2)
    assert "b.png" not in watched.told()
    growing.write_bytes(content)
    (watched.media / "$(touch pwned) broken.png").write_bytes(b"no picture")
    watched.until(lambda: {"b.png", "$(touch pwned) broken.png"} <= watched.told().keys())
    assert watched.told()["b.png"] == "added"
    watched.until(lambda: any(words == ["bad"] for words, _ in watched.hooked()))
    watched.process.send_signal(signal.SIGTERM)
    assert watched.process.wait(60) == 0
    done = [(words, facts) for words, facts in watched.hooked() if words[0] == "all done"]
    assert done[0][0] == ["all done", ";true"]
    assert done[0][1]["ADDED"] == "1"
    assert done[0][1]["GALLERY"] == str(watched.gallery)
    bad = next(facts for words, facts in watched.hooked() if words == ["bad"])
    assert "rejected" in bad["REASON"]
    assert not list(tmp_path.rglob("pwned"))
    # The write-ahead log is folded in: the one file may be copied.
    assert not watched.gallery.with_name("shop.claid-wal").exists()


def test_a_stick_that_is_mounted_is_enrolled_and_may_go(watched: Watched) -> None:
    stick = watched.media / "usb0"
    stick.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(stick)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        old(write_picture(stick / "s.png", 5))
        watched.until(lambda: watched.told().get("s.png") == "added")
    finally:
        subprocess.run(["umount", str(stick)], check=True)
    watched.until(lambda: "usb0 is gone" in watched.err.read_text())
    old(write_picture(watched.media / "a.png", 1))
    watched.until(lambda: watched.told().get("a.png") == "added")
    with edge_claid.Gallery.open(watched.gallery, "r") as gallery:
        assert sorted((row.root, row.path) for row in gallery.images()) == [("media", "a.png"), ("usb0", "s.png")]


SLOW = PROGRAM.replace(
    "app.main()",
    "import time\n"
    "inner = MadeUpPipeline.describe_many\n"
    "def slowly(self, frames):\n"
    "    for result in inner(self, frames):\n"
    "        print('described', flush=True)\n"
    "        yield result\n"
    "        time.sleep(0.2)\n"
    "MadeUpPipeline.describe_many = slowly\n"
    "app.main()",
)


def test_a_pulled_stick_is_exit_7_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    for number in range(40):
        old(write_picture(tmp_path / "content" / f"{number:02}.png", number, size=(1600, 1200)))
    stick = tmp_path / "stick"
    stick.mkdir()
    plug = ["mount", "--bind", str(tmp_path / "content"), str(stick)]
    if shutil.which("mount") is None or subprocess.run(plug, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    words = ["enroll", str(stick), "--gallery", str(tmp_path / "g.claid"), "--prune", "--json"]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"described\n"
    subprocess.run(["umount", "-l", str(stick)], check=True)
    out, err = process.communicate(timeout=60)
    lines = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    assert process.returncode == 7
    assert b"the source was lost" in err
    assert {line["status"] for line in lines[:-1]} == {"added"}
    assert 1 <= lines[-1]["summary"]["added"] == len(lines) - 1 < 40
    subprocess.run(plug, check=True)
    try:
        again = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, check=True)
        summary = json.loads(again.stdout.splitlines()[-1])["summary"]
        assert (summary["unchanged"], summary["added"]) == (len(lines) - 1, 40 - (len(lines) - 1))
    finally:
        subprocess.run(["umount", str(stick)], check=True)


def test_sigterm_ends_a_plain_enrolment_with_what_is_ready(tmp_path: Path) -> None:
    for number in range(6):
        write_picture(tmp_path / "photos" / f"{number}.png", number)
    words = ["enroll", str(tmp_path / "photos"), "--gallery", str(tmp_path / "g.claid")]
    with subprocess.Popen([sys.executable, "-c", SLOW, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # The second is asked for once the first has been handed over: from then on one is ready.
        assert [process.stdout.readline() for _ in range(2)] == ["described\n"] * 2
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130
    with edge_claid.Gallery.open(tmp_path / "g.claid", "r") as gallery:
        assert 1 <= len(gallery) < 6


def test_unit_is_sound(tmp_path: Path) -> None:
    service = Path(edge_claid.__file__).parent / "service"
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(service / "edge-claid-watch@.service")
    assert "--watch" in unit["Service"]["ExecStart"]
    assert "systemd-mount" in (service / "99-edge-claid-media.rules").read_text()
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here to verify the unit")
    copied = shutil.copy(service / "edge-claid-watch@.service", tmp_path / "edge-claid-watch@shop.service")
    found = subprocess.run(["systemd-analyze", "verify", copied], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.strip()) == (0, "")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1.0), ("500ms", 0.5), ("2.5", 2.5), ("1m", 60.0), ("0", None), ("none", None)]
)
def test_lengths_of_time(text: str, seconds: float | None) -> None:
    assert seconds_from_text(text, "--every", 0.1) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1 fortnight", "10ms", "1e9h", "nan"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--every"):
        seconds_from_text(text, "--every", 0.1)


def test_a_hook_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Hook.parsed(f"{sys.executable} -c 'raise SystemExit(3)'", "--on-done").run({"reason": "a\0b"})
    assert "ended with 3" in caplog.text
    script = tmp_path / "not a program"
    script.write_text("no interpreter")
    script.chmod(0o755)
    Hook((str(script),)).run({})
    assert "could not be run" in caplog.text
    Hook().run({})


def test_progress_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told = FileProgress("enrolling")
    told.expect(1000)
    for _ in range(500):
        told.advance("unchanged")
    for _ in range(100):
        now[0] += 2.0
        told.advance("added")
    told.advance("rejected")
    # The known files of the first moment no longer count for the rate.
    assert told.line() == "enrolling: 601 of 1000 files, 0.5 files/s, 1 rejected, about 13 min left"
    told.phase("training on views", 0, 64)
    now[0] += 30
    told.phase("training on views", 16, 64)
    assert told.line() == "training on views: 16 of 64, 30 s, about 2 min left"
    told.phase("training the code book", 0, 1)
    now[0] += 12
    assert told.line() == "training the code book: 12 s"
