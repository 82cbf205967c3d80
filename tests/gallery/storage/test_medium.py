"""Where a gallery lies: read-only media, files with a largest size, several processes, a file that goes away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import DIM, MadeUpSpace
from test_store import new_image, opened

from edge_claid.errors import GalleryError, StorageError
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage import connection, medium
from edge_claid.gallery.storage.holder import writer_of
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery of six images."""
    path = tmp_path / "medium" / "g.claid"
    path.parent.mkdir()
    with opened(path) as gallery:
        gallery.bind("aa", {"x": 1}, DIM)
        register_root(gallery, str(tmp_path), "photos")
        gallery.add([new_image(i) for i in range(6)])
        gallery.adopt_space(MadeUpSpace(), keep_descriptors=True)
    return path


# -- a medium that cannot be written


def mounted(path: Path, program: str, mount: str) -> str:
    """Run a program that sees a mount of its own at the folder of ``path``; what it prints."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may mount a medium, and only with unshare (package util-linux)")
    here = Path(__file__).parent.parent
    head = f"import sys; sys.path[:0] = [{str(here)!r}]\nfrom test_store import *\npath = Path({str(path)!r})\n"
    arguments = [str(path.parent), sys.executable, "-c", head + program]
    command = ["unshare", "--mount", "sh", "-c", f'{mount}; shift; exec "$@"', "sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_read_only_place(path: Path, program: str) -> str:
    """Run a program that sees the folder of ``path`` on a medium mounted read-only; what it prints."""
    return mounted(path, program, 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77')


def in_small_place(path: Path, program: str) -> str:
    """Run a program that sees the folder of ``path`` on a medium of 1 MB; what it prints."""
    mount = 'cp -a "$1" "$1.kept" && mount -t tmpfs -o size=1m none "$1" && cp "$1.kept"/* "$1" || exit 77'
    try:
        return mounted(path, program, mount)
    finally:
        shutil.rmtree(f"{path.parent}.kept", ignore_errors=True)


READ_ALL = """
with opened(path, "r") as gallery:
    print(len(gallery), len(gallery.load_index()), len(list(verify(gallery))))
for mode in ("rw", "create"):
    try:
        opened(path, mode)
    except StorageError as error:
        print(error.exit_code, error)
"""


def test_a_read_only_medium_is_read_and_says_what_it_is(path: Path) -> None:
    told = in_read_only_place(path, READ_ALL).splitlines()
    assert told[0] == "6 19 0"
    assert len(told) == 3
    assert all("9 gallery" in line and "lies on a read-only medium" in line for line in told[1:])


def test_an_earlier_layout_on_a_read_only_medium_is_read(tmp_path: Path) -> None:
    from test_schema_layouts import LAYOUTS, written

    (tmp_path / "medium").mkdir()
    path = written(LAYOUTS[1], tmp_path / "medium" / "g.claid")
    told = in_read_only_place(path, READ_ALL).splitlines()
    assert told[0] == "4 15 0"
    assert len(told) == 3


def test_a_log_left_on_a_read_only_medium_is_part_of_the_gallery(path: Path) -> None:
    leave_log(path)
    assert in_read_only_place(path, READ_ALL).splitlines()[0] == "9 28 0"
    # Nothing was lost by that either.
    with opened(path, "rw") as gallery:
        assert len(gallery) == 9


def leave_log(path: Path) -> None:
    """Three images more, in a write-ahead log whose writer was killed."""
    program = (
        f"import sys, os; sys.path[:0] = [{str(Path(__file__).parent.parent)!r}]\nfrom test_store import *\n"
        f"gallery = opened(Path({str(path)!r}), 'rw')\n"
        "gallery.add([new_image(i) for i in range(100, 103)])\nos.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert os.path.getsize(f"{path}-wal") > 0
    os.remove(f"{path}-shm")


def test_without_a_place_for_locks_it_is_read_from_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where no medium can be mounted: no lock, no file beside the gallery."""
    leave_log(path)
    before = sorted(path.parent.iterdir())
    with monkeypatch.context() as patch:
        uri = f"file:{path}"
        patch.setattr(connection, "_open", lambda path, mode, wait: connection._unlocked(path, uri, wait))
        with opened(path, "r") as gallery:
            assert len(gallery) == 9
            assert list(verify(gallery)) == []
            assert sorted(path.parent.iterdir()) == before
            with pytest.raises(StorageError, match="read only"):
                gallery.remove([1])


def test_what_is_read_without_locks_must_not_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        uri = f"file:{path}"
        patch.setattr(connection, "_open", lambda path, mode, wait: connection._unlocked(path, uri, wait))
        reader = opened(path, "r")
    with reader:
        assert len(reader) == 6
        with opened(path, "rw") as writer:
            writer.remove([1])
        with pytest.raises(GalleryError, match="was changed while it was read"):
            len(reader)


def test_on_a_full_disk_it_is_still_read(path: Path) -> None:
    """The locks of a reader lie in a file beside the gallery, for which there is no room."""
    fill = (
        "import os\nfolder = path.parent\nwith open(folder / 'rest', 'wb', 0) as rest:\n"
        "    try:\n        while True:\n            rest.write(bytes(4096))\n"
        "    except OSError:\n        pass\n"
        "try:\n    (folder / 'more').write_bytes(b'x')\nexcept OSError:\n    print('full')\n"
    )
    for left in (False, True):
        if left:
            leave_log(path)
        told = in_small_place(path, fill + READ_ALL.replace('("rw", "create")', '("rw",)')).splitlines()
        assert told[0] == "full"
        assert told[1] == ("9 28 0" if left else "6 19 0")
        assert told[2].startswith("9 gallery")


# -- a gallery of another user


@pytest.mark.usefixtures("bound_by_permissions")
def test_what_a_user_may_not_do_with_a_gallery_is_told(path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(StorageError, match=r"g\.claid may not be written by this user"):
        opened(path)
    path.chmod(0o600)
    path.parent.chmod(0o500)
    with pytest.raises(StorageError, match=r"its folder .*medium may not be written by this user"):
        opened(path)
    with Gallery.open(path, "r", read_space=MadeUpSpace.from_bytes) as gallery:
        assert len(gallery) == 6
    path.chmod(0)
    with pytest.raises(StorageError, match=r"g\.claid cannot be read \(Permission denied\)"):
        Gallery.open(path)
    path.chmod(0o600)
    path.parent.chmod(0)
    try:
        with pytest.raises(StorageError, match=r"g\.claid cannot be read \(Permission denied\)"):
            Gallery.open(path)
    finally:
        path.parent.chmod(0o700)


# -- a file that goes away


def test_a_file_removed_under_a_reader(path: Path) -> None:
    with opened(path, "r") as gallery:
        assert len(gallery) == 6
        path.rename(path.with_name("elsewhere"))
        with pytest.raises(StorageError, match="is gone") as gone:
            gallery.images_by_id([1])
        assert gone.value.exit_code == 9
        path.with_name("elsewhere").rename(path)
        assert len(gallery.images_by_id([1])) == 1


def test_a_file_replaced_under_a_reader(path: Path) -> None:
    other = path.with_name("other.claid")
    with opened(other) as gallery:
        assert len(gallery) == 0
    with opened(path, "r") as gallery:
        os.replace(other, path)
        with pytest.raises(GalleryError, match="replaced by another file") as replaced:
            gallery.regions(1)
        assert replaced.value.exit_code == 8


@pytest.mark.parametrize("when", ["before", "within"])
def test_what_goes_into_a_removed_file_is_not_reported(path: Path, when: str) -> None:
    with opened(path, "rw") as gallery:

        def add() -> None:
            with gallery.batch() as batch:
                batch.add(new_image(50))
                path.unlink(missing_ok=True)

        if when == "before":
            path.unlink()
        with pytest.raises(StorageError, match="is gone"):
            add()


# -- the largest file


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose files have at most 300 kB."""
    monkeypatch.setattr(medium, "largest_file", lambda path: 300_000)
    monkeypatch.setattr(medium, "file_system", lambda path: "vfat")


@pytest.mark.usefixtures("small_files")
def test_the_largest_file_is_told_in_time_and_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    added = 6
    with opened(path, "rw") as gallery:
        for first in range(100, 10_000, 10):
            images = [new_image(first + i) for i in range(10)]
            try:
                gallery.add(images)
            except StorageError as error:
                full = error
                break
            added += 10
    assert "as large as a file may be on vfat" in str(full)
    assert full.exit_code == 9
    assert "exFAT" in str(full)
    assert 250_000 < os.path.getsize(path) < 300_000
    assert caplog.messages == []
    with opened(path, "rw") as gallery:
        assert "copy it to an exFAT or ext4 medium in time" in caplog.text
        assert len(gallery) == added
        assert list(verify(gallery)) == []
        # A compaction puts the whole file into its log.
        gallery.compact()
        gallery.remove([row.id for row in gallery.images()][:50])
        assert gallery.add([new_image(20_000)]) == ["added"]


def test_file_systems(tmp_path: Path) -> None:
    status = os.stat(tmp_path)
    number = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    mounts = tmp_path / "mounts"
    for kind in ("vfat", "ext4"):
        lines = f"1 2 0:99 / /x rw - proc proc rw\n3 4 {number} / /y rw,noatime shared:1 - {kind} /dev/sda1 rw\n"
        mounts.write_text(lines)
        assert medium.file_system(str(tmp_path / "g"), str(mounts)) == kind
    mounts.write_text("odd\n")
    assert medium.file_system(str(tmp_path / "g"), str(mounts)) == ""
    assert medium.file_system("/no/such/folder/g") == ""


def test_compaction_asks_for_room_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path, "rw") as gallery:
        monkeypatch.setattr(medium, "free_bytes", lambda path: 1000)
        with pytest.raises(StorageError, match=r"needs .* bytes of free space"):
            gallery.compact()


# -- several at once


def holding(path: Path, seconds: int) -> subprocess.Popen[str]:
    """A process like ``edge-claid gallery compact SOURCE`` that has begun to write."""
    script = path.with_name("edge-claid")
    script.write_text(
        f"import sys, time; sys.path[:0] = [{str(Path(__file__).parent.parent)!r}]\nfrom test_store import *\n"
        f"with opened(Path({str(path)!r}), 'rw') as gallery, gallery.batch() as batch:\n"
        f"    batch.remove(1); print('holds', flush=True); time.sleep({seconds})\n"
    )
    arguments = ["--debug", "gallery", "compact", "rtsp://user:secret@host/x"]
    process = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds\n"
    return process


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux tells who holds a lock")
def test_a_second_writer_is_told_who_writes(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_TELL_AFTER", 0.05)
    with opened(path, "rw", wait_seconds=0.2) as second, holding(path, 60) as first:
        who = f"edge-claid gallery compact (process {first.pid})"
        with pytest.raises(StorageError) as busy:
            second.remove([2])
        first.kill()
        first.wait()
        # Killed, it holds nothing any more, and what it had not committed is not there.
        assert writer_of(str(path)) == "another process"
        assert second.remove([1]) == 1
    assert str(busy.value).startswith(f"gallery {path}: {who} is writing to it")
    assert f"waiting for {who}" in caplog.text
    assert "secret" not in str(busy.value) + caplog.text


def test_it_waits_for_the_first_one_to_end(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path, "rw", wait_seconds=30) as second, holding(path, 1):
        assert second.remove([2]) == 1
    assert len(caplog.messages) <= 1
    with opened(path, "r") as gallery:
        assert len(gallery) == 4


def test_closed_by_its_writer_the_one_file_holds_everything(path: Path, tmp_path: Path) -> None:
    with opened(path, "r") as reader:
        assert len(reader) == 6
        with opened(path, "rw") as writer:
            writer.add([new_image(i) for i in range(100, 120)])
        shutil.copy(path, tmp_path / "copy.claid")
        assert len(reader) == 26
    with opened(tmp_path / "copy.claid", "r") as copy:
        assert len(copy) == 26
        assert list(verify(copy)) == []
    assert [file.name for file in path.parent.iterdir()] == ["g.claid"]


def test_many_readers_and_a_writer(path: Path) -> None:
    """Each reader sees whole batches only, whenever it looks."""
    program = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent.parent)!r}]\nfrom test_store import *\n"
        f"with opened(Path({str(path)!r}), 'r') as gallery:\n"
        "    seen = {len(gallery)}; print('reads', flush=True)\n"
        "    while max(seen) < 106:\n"
        "        index = gallery.load_index(exact=True)\n"
        "        seen.add(len(index.image_ids))\n"
        "    assert all((n - 6) % 5 == 0 for n in seen), seen\n"
        "    assert list(verify(gallery)) == []\n"
    )
    command = [sys.executable, "-c", program]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for reader in readers:
        assert reader.stdout.readline() == "reads\n"
    with opened(path, "rw") as writer:
        for batch in range(20):
            writer.add([new_image(100 + 5 * batch + i) for i in range(5)])
    for reader in readers:
        reader.communicate(timeout=60)
        assert reader.returncode == 0
