"""What a folder may hold that is no picture one can read, and media that answer with errors."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
from made_up import MadeUpPipeline, MadeUpSpace, picture_bytes, write_picture

from edge_claid.errors import BadImageError
from edge_claid.frames import file_bytes, open_source
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery import roots as roots_module
from edge_claid.gallery.enrolment import survey as survey_module
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome, Summary
from edge_claid.gallery.enrolment.presence import Presence
from edge_claid.gallery.store import Gallery


class Shop:
    def __init__(self, folder: Path):
        self.photos = folder / "photos"
        self.photos.mkdir()
        self.pipeline = MadeUpPipeline()
        self.gallery = Gallery.open(folder / "g.claid", "create", read_space=MadeUpSpace.from_bytes)
        self.summary = Summary()

    def enroll(self, *sources: PictureFiles | Path, **options: object) -> dict[str, Outcome]:
        told: list[Outcome] = []
        opened = [one if isinstance(one, PictureFiles) else open_source(one) for one in sources or (self.photos,)]
        self.pipeline.frames_seen.clear()
        self.summary = enroll(self.gallery, opened, self.pipeline, EnrollOptions(**options), told.append)
        return {os.path.basename(one.file): one for one in told}


@pytest.fixture
def shop(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Shop(tmp_path)
    with made.gallery:
        yield made


def test_no_regular_files(shop: Shop) -> None:
    write_picture(shop.photos / "a.png", 1)
    os.mkfifo(shop.photos / "pipe.png")
    (shop.photos / "zero.png").symlink_to("/dev/zero")
    (shop.photos / "loop").symlink_to(shop.photos)
    (shop.photos / "self.png").symlink_to(shop.photos / "self.png")
    expected = {"a.png": "added", "pipe.png": "skipped"}
    try:
        os.mknod(shop.photos / "node.png", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        expected["node.png"] = "skipped"
    except PermissionError:
        pass  # only root makes a device node; the link to one is looked at by everybody
    told = shop.enroll()
    assert {name: one.status for name, one in told.items()} == expected | {
        "zero.png": "skipped",
        "self.png": "rejected",
    }


@pytest.mark.parametrize(
    "name", ["new\nline.png", "caf\udce9.png", "Ünï-猫.png", " .png", "a#t=1.000.png", "%s'\".png"]
)
def test_odd_names_come_back(shop: Shop, name: str) -> None:
    try:
        write_picture(shop.photos / name, 1)
    except OSError:
        pytest.skip("this file system takes text names only")
    assert shop.enroll()[name].status == "added"
    assert [row.path for row in shop.gallery.images()] == [name]
    assert shop.enroll()[name].status == "unchanged"


def test_paths_longer_than_the_system_takes(shop: Shop) -> None:
    write_picture(shop.photos / "a.png", 1)
    here = os.getcwd()
    os.chdir(shop.photos)
    try:
        for _ in range(20):
            os.mkdir("d" * 240)
            os.chdir("d" * 240)
        Path("deep.png").write_bytes(picture_bytes(2))
    finally:
        os.chdir(here)
    try:
        told = shop.enroll(prune=True)
        assert told["a.png"].status == "added"
        assert [one.reason for one in told.values() if one.status == "rejected"] == ["file name too long"]
    finally:
        subprocess.run(["rm", "-rf", str(shop.photos / ("d" * 240))], check=True)


def test_a_file_that_grows_while_it_is_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_picture(shop.photos / "a.png", 1)
    whole = file_bytes.open_regular

    def growing(name: str):  # type: ignore[no-untyped-def]
        file = whole(name)
        with open(name, "ab") as more:
            more.write(b"more")
        return file

    monkeypatch.setattr(file_bytes, "open_regular", lambda name: _fstat_first(growing, whole, name, path))
    told = shop.enroll()
    assert (told["a.png"].status, told["a.png"].reason) == ("rejected", "changed while it was read")
    monkeypatch.undo()
    assert len(shop.gallery) == 0


def _fstat_first(growing, whole, name, path):  # type: ignore[no-untyped-def]
    """A file that grows between its first fstat and its last byte."""
    file = whole(name)
    read = file.read

    class Growing:
        def __enter__(self):  # type: ignore[no-untyped-def]
            return self

        def __exit__(self, *_: object) -> None:
            file.close()

        def fileno(self) -> int:
            return file.fileno()

        def read(self, count: int) -> bytes:
            content = read(count)
            with open(path, "ab") as more:
                more.write(b"more")
            return content

    return Growing()


def test_a_clock_before_1980(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stamps prove nothing then: contents are compared, and a change is found whatever its time says."""
    path = write_picture(shop.photos / "a.png", 1)
    os.utime(path, (5000, 5000))
    monkeypatch.setattr(survey_module.time, "time_ns", lambda: 86_400 * 10**9)
    assert shop.enroll()["a.png"].status == "added"
    assert shop.enroll()["a.png"].status == "unchanged"
    assert shop.pipeline.frames_seen == []
    path.write_bytes(picture_bytes(2))
    os.utime(path, (5000, 5000))
    assert shop.enroll()["a.png"].status == "replaced"


def test_a_case_insensitive_file_system(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that changes only the case of a name leaves both names true; it is one picture all the same."""
    path = write_picture(shop.photos / "IMG.png", 1)
    os.utime(path, (time.time() - 60,) * 2)
    shop.enroll()
    path.rename(shop.photos / "img.PNG")
    real = os.stat

    def folded(name, *args, **kwargs):  # type: ignore[no-untyped-def]
        if isinstance(name, str) and name.lower().endswith("img.png"):
            name = os.path.join(os.path.dirname(name), "img.PNG")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "stat", folded)
    told = shop.enroll(prune=True)
    assert [(one.status, name) for name, one in told.items()] == [("moved", "img.PNG")]
    assert [row.path for row in shop.gallery.images()] == ["img.PNG"]


def test_one_unreadable_file_is_rejected_and_many_in_a_row_are_a_lost_medium(shop: Shop) -> None:
    for number in range(30):
        write_picture(shop.photos / f"{number:02}.png", number)

    def source(bad: range) -> PictureFiles:
        class Failing(PictureFiles):
            def fetch(self, file):  # type: ignore[no-untyped-def]
                if int(file.relative[:2]) in bad:
                    try:
                        raise OSError(errno.EIO, "Input/output error")
                    except OSError as error:
                        raise BadImageError(f"{file.path}: cannot be read (i/o error)") from error
                return super().fetch(file)

        return Failing("stick", str(shop.photos))

    told = shop.enroll(source(range(3, 5)))
    assert (told["03.png"].status, len(shop.gallery), shop.summary.lost) == ("rejected", 28, {})
    for number in range(30):
        write_picture(shop.photos / f"{number:02}.png", 100 + number)
    told = shop.enroll(source(range(10, 30)), prune=True)
    assert list(shop.summary.lost) == ["stick"]
    assert "removed" not in {one.status for one in told.values()}
    assert len(shop.gallery) == 30
    assert sum(one.status == "rejected" for one in told.values()) < 5
    statuses = {one.status for one in shop.enroll(prune=True).values()}
    assert statuses <= {"unchanged", "replaced", "added"}
    assert len(shop.gallery) == 30


def test_a_lost_source_does_not_end_the_others(shop: Shop, tmp_path: Path) -> None:
    write_picture(tmp_path / "other" / "x.png", 77)
    for number in range(3):
        write_picture(shop.photos / f"{number}.png", number)

    class Gone(PictureFiles):
        def files(self):  # type: ignore[no-untyped-def]
            listed = list(super().files())
            if os.path.isdir(self.root):
                os.rename(self.root, self.root + " was here")
            yield from listed

    told = shop.enroll(Gone("stick", str(shop.photos)), tmp_path / "other")
    assert {name: one.status for name, one in told.items()} == {"x.png": "added"}
    assert list(shop.summary.lost) == ["stick"]


def test_an_empty_mount_point_is_no_moved_picture(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stick is out, its mount point is there and empty: a copy elsewhere does not take its place."""
    monkeypatch.setattr(roots_module, "volume_of", lambda location: "UUID-1:." if "photos" in str(location) else "")
    write_picture(shop.photos / "a.png", 1)
    shop.enroll()
    shutil.rmtree(shop.photos)
    shop.photos.mkdir()
    monkeypatch.setattr(roots_module, "volume_of", lambda location: "")
    write_picture(tmp_path / "other" / "b.png", 1)
    assert shop.enroll(tmp_path / "other")["b.png"].reason == "same content as photos/a.png"
    assert [row.path for row in shop.gallery.images()] == ["a.png"]


def test_presence(tmp_path: Path) -> None:
    place = tmp_path / "stick"
    place.mkdir()
    there = Presence(str(place))
    assert there.look() is None
    place.rename(tmp_path / "old")
    place.mkdir()
    assert there.look() == "another file system lies there now"
