"""Watched folders: only what is new and has stopped growing; and media that are mounted below them."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

import edge_claid.frames.arrivals as arrivals_module
from edge_claid.frames.arrivals import Arrivals
from edge_claid.frames.mounts import MountChanges, mounts_below


def write(path: Path, content: bytes = b"x", age: float = 60.0) -> Path:
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def names(place: Arrivals) -> list[str]:
    place.look()
    return [file.relative for file in place.files()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock as a list of one number."""
    now = [1000.0]
    monkeypatch.setattr(arrivals_module.time, "monotonic", lambda: now[0])
    return now


def test_what_was_taken_comes_again_only_when_it_changes(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    place = Arrivals(str(tmp_path))
    assert names(place) == ["a.png"]
    assert names(place) == ["a.png"]
    place.take()
    assert names(place) == []
    write(tmp_path / "b.png")
    write(tmp_path / "a.png", b"other")
    assert names(place) == ["a.png", "b.png"]


def test_a_sidecar_that_changes_brings_its_picture_again(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    place = Arrivals(str(tmp_path))
    place.look(), place.take()
    write(tmp_path / "a.json", b"{}")
    assert names(place) == ["a.json", "a.png"]


def test_a_growing_file_waits(tmp_path: Path, clock: list[float]) -> None:
    place = Arrivals(str(tmp_path))
    path = write(tmp_path / "a.png", b"1", age=0)
    assert (names(place), place.growing) == ([], 1)
    clock[0] += 3
    path.write_bytes(b"12")
    assert (names(place), place.growing) == ([], 1)
    clock[0] += 1
    assert (names(place), place.growing) == ([], 1)
    clock[0] += 1.5
    assert (names(place), place.growing) == (["a.png"], 0)


def test_a_clock_before_1980_is_not_believed(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    os.utime(path, (86_400, 86_400))
    place = Arrivals(str(tmp_path))
    assert (names(place), place.growing) == ([], 1)
    clock[0] += 3
    assert names(place) == ["a.png"]


TABLE = (
    rb"36 25 8:1 / /media/me/USB\040stick rw - vfat /dev/sda1 rw" + b"\n"
    rb"37 25 0:5 / /media/me/proc rw shared:1 - proc proc rw" + b"\n"
    rb"38 25 8:2 / /mediated rw - ext4 /dev/sda2 rw" + b"\n"
    b"39 25 8:3 / /media/caf\xe9 rw - exfat /dev/sdb1 rw\n"
)


def test_media_below_a_folder(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(TABLE)
    assert mounts_below("/media", str(table)) == ["/media/caf\udce9", "/media/me/USB stick"]
    assert mounts_below("/media/me/USB stick", str(table)) == []
    assert mounts_below("/media", str(tmp_path / "none")) == []


def test_waking_ends_a_wait() -> None:
    with MountChanges() as changes:
        timer = threading.Timer(0.05, changes.wake)
        timer.start()
        started = time.monotonic()
        changes.wait(30)
        timer.join()
        assert time.monotonic() - started < 20
        assert not changes.wait(0)


def test_a_mount_wakes_it_and_is_walked_on_its_own(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    write(tmp_path / "a.png")
    with MountChanges() as changes:
        changes.wait(0)
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(stick)]
        try:
            mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            mounted = False
        if not mounted:
            pytest.skip("this user may not mount a file system")
        try:
            assert changes.wait(30)
            write(stick / "b.png")
            assert mounts_below(str(tmp_path)) == [str(stick)]
            assert names(Arrivals(str(tmp_path))) == ["a.png"]
            assert names(Arrivals(str(stick))) == ["b.png"]
        finally:
            subprocess.run(["umount", str(stick)], check=True)
