"""What exFAT and vfat bring: names without case, times of two seconds, no links; on a real exFAT where it can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import DIM, MadeUpPipeline, MadeUpSpace, picture_bytes, write_picture

from edge_claid.errors import StorageError
from edge_claid.frames import open_source
from edge_claid.gallery.enrolment import survey as survey_module
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.storage import medium
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.repair import repair
from edge_claid.gallery.upkeep.verify import verify

_NEEDED = ("mkfs.exfat", "mount.exfat-fuse", "losetup", "umount")


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """A folder on exFAT, mounted through FUSE."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    tools = {name: shutil.which(name, path=path) for name in _NEEDED}
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or None in tools.values():
        pytest.skip("needs root, exfat-fuse and exfatprogs to mount exFAT")
    image, place = tmp_path / "exfat.img", tmp_path / "exfat"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * 2**20)
    subprocess.run([str(tools["mkfs.exfat"]), str(image)], check=True, capture_output=True)
    attach = [str(tools["losetup"]), "--find", "--show", str(image)]
    attached = subprocess.run(attach, capture_output=True, text=True)
    device = attached.stdout.strip()
    if (
        not device
        or subprocess.run([str(tools["mount.exfat-fuse"]), device, str(place)], capture_output=True).returncode
    ):
        if device:
            subprocess.run([str(tools["losetup"]), "--detach", device], check=True)
        pytest.skip(f"nothing can be mounted here: {attached.stderr.strip() or 'no FUSE'}")
    try:
        yield place
    finally:
        subprocess.run([str(tools["umount"]), str(place)], check=True)
        subprocess.run([str(tools["losetup"]), "--detach", device], check=True)


def opened(path: Path, mode: str = "create") -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes)


def enrolled(gallery: Gallery, photos: Path, **options: object) -> dict[str, str]:
    """Status by file name; the small medium may be filled to its end."""
    options = {"reserve": 0, **options}
    told: dict[str, str] = {}
    tell = lambda outcome: told.update({os.path.basename(outcome.file): outcome.status})  # noqa: E731
    enroll(gallery, [open_source(photos)], MadeUpPipeline(), EnrollOptions(**options), tell)
    return told


def test_a_life_on_exfat(exfat: Path) -> None:
    """The gallery and its pictures both lie there."""
    photos, path = exfat / "photos", exfat / "g.claid"
    for number in range(8):
        old = write_picture(photos / f"Img_{number}.png", number)
        os.utime(old, (time.time() - 60,) * 2)
    with opened(path) as gallery:
        assert set(enrolled(gallery, photos).values()) == {"added"}
        assert set(enrolled(gallery, photos).values()) == {"unchanged"}
        (photos / "Img_0.png").rename(photos / "IMG_0.PNG")
        assert (photos / "img_0.png").exists(), "this exFAT minds case"
        assert enrolled(gallery, photos, prune=True)["IMG_0.PNG"] == "moved"
        gallery.adopt_space(MadeUpSpace(), keep_descriptors=True)
        gallery.compact()
    assert sorted(os.listdir(exfat)) == ["g.claid", "photos"]
    assert repair(str(path), read_space=MadeUpSpace.from_bytes).images == 8
    assert sorted(os.listdir(exfat)) == ["g.claid", "g.claid.damaged", "photos"]
    with opened(path, "r") as gallery:
        assert list(verify(gallery)) == []
        assert {row.path for row in gallery.images()} == {"IMG_0.PNG", *(f"Img_{n}.png" for n in range(1, 8))}


def test_a_writer_killed_on_exfat_loses_nothing_it_reported(exfat: Path) -> None:
    path = exfat / "g.claid"
    here = str(Path(__file__).parent.parent)
    program = (
        f"import sys, os; sys.path[:0] = [{here!r}]\nfrom test_store import *\n"
        f"gallery = opened(Path({str(path)!r}))\ngallery.bind('aa', {{'x': 1}}, {DIM})\n"
        "register_root(gallery, '/x', 'photos')\ngallery.add([new_image(i) for i in range(20)])\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    with opened(path, "rw") as gallery:
        assert len(gallery) == 20
        assert list(verify(gallery)) == []


def test_a_full_exfat(exfat: Path) -> None:
    path = exfat / "g.claid"
    with opened(path) as gallery:
        enrolled(gallery, write_picture(exfat / "photos" / "0.png", 0).parent)
        with pytest.raises(OSError, match="space"):
            (exfat / "rest").write_bytes(bytes(64 * 2**20))
        for number in range(1, 400):
            (exfat.parent / "more").mkdir(exist_ok=True)
            (exfat.parent / "more" / f"{number}.png").write_bytes(picture_bytes(number))
        with pytest.raises(StorageError) as full:
            enrolled(gallery, exfat.parent / "more", reserve=1)
        assert full.value.exit_code == 9
        (exfat / "rest").unlink()
        assert set(enrolled(gallery, exfat.parent / "more").values()) <= {"added", "unchanged"}
        assert len(gallery) == 400
        assert list(verify(gallery)) == []


def test_times_of_two_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewritten within the same two seconds a file keeps size and time; its content tells."""
    now = 1_700_000_000
    monkeypatch.setattr(survey_module.time, "time_ns", lambda: now * 10**9 + 1)
    path = write_picture(tmp_path / "photos" / "a.png", 1)
    first = path.read_bytes()
    os.utime(path, (now - 1, now - 1))
    with opened(tmp_path / "g.claid") as gallery:
        assert enrolled(gallery, path.parent) == {"a.png": "added"}
        other = picture_bytes(2)
        size = max(len(first), len(other))
        path.write_bytes(other.ljust(size, b"\0"))
        with gallery.writing() as connection:
            connection.execute("UPDATE images SET size = ?", (size,))
        os.utime(path, (now - 1, now - 1))
        assert enrolled(gallery, path.parent) == {"a.png": "replaced"}


def test_a_repair_where_files_have_no_second_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g.claid"
    with opened(path) as gallery:
        enrolled(gallery, write_picture(tmp_path / "photos" / "a.png", 1).parent)

    def no_links(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    repaired = repair(str(path), read_space=MadeUpSpace.from_bytes)
    assert (repaired.images, repaired.damaged) == (1, f"{path}.damaged")
    with opened(path, "r") as gallery, opened(Path(repaired.damaged), "r") as before:
        assert (len(gallery), len(before)) == (1, 1)


def test_a_medium_that_does_not_tell_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some FUSE file systems answer with zeros; that is no full disk."""
    told = os.statvfs(tmp_path)
    assert medium.free_bytes(str(tmp_path / "g.claid"))
    zeros = os.statvfs_result((told.f_bsize, told.f_frsize, 0, 0, 0, *tuple(told)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: zeros)
    assert medium.free_bytes(str(tmp_path / "g.claid")) is None
    with opened(tmp_path / "g.claid") as gallery:
        assert enrolled(gallery, write_picture(tmp_path / "photos" / "a.png", 1).parent) == {"a.png": "added"}
