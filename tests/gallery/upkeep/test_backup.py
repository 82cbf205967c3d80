"""Copies of a gallery that is in use, and galleries from outside."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import DIM, MadeUpSpace, described

from edge_claid.errors import EdgeClaidError, GalleryError, StorageError, UsageError
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.backup import copy_to, import_gallery
from edge_claid.gallery.upkeep.verify import verify


def opened(path: Path, mode: str = "r") -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes)


def new_image(seed: int) -> NewImage:
    return NewImage(1, f"{seed}.png", struct.pack(">Q", seed), 10, 20, described(seed, 2 + seed % 4))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "g.claid"
    with opened(path, "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM, keep_descriptors=True)
        register_root(gallery, str(tmp_path), "photos")
        gallery.add([new_image(seed) for seed in range(30)])
        gallery.adopt_space(MadeUpSpace())
    return path


_WRITER = """
import sys
sys.path[:0] = {folders!r}
from test_backup import *
with opened(Path({path!r}), "rw") as gallery:
    for i in range(100, 100000, 2):
        # Two images a batch, and one of the batch before goes: a torn copy would show an odd number.
        gallery.add([new_image(i), new_image(i + 1)])
        print(i, flush=True)
"""


def test_copies_taken_while_another_process_writes(path: Path, tmp_path: Path) -> None:
    program = _WRITER.format(folders=[str(folder) for folder in Path(__file__).parents[:2]], path=str(path))
    counts = []
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        for number in range(6):
            copy = tmp_path / f"copy-{number}.claid"
            with opened(path) as gallery:
                assert copy_to(gallery, str(copy)) == copy.stat().st_size
            process.stdout.readline()
            with opened(copy) as copied:
                assert list(verify(copied)) == []
                counts.append(len(copied))
                assert sum(1 for _ in copied.images()) == counts[-1]
        assert process.poll() is None
        process.kill()
    assert all(count % 2 == 0 for count in counts)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] >= 36


def test_a_copy_is_one_file_under_its_name_only_when_whole(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "sub" / "copy.claid"
    target.parent.mkdir()
    with opened(path) as gallery:
        copy_to(gallery, str(target))
        assert [file.name for file in target.parent.iterdir()] == ["copy.claid"]
        with pytest.raises(UsageError, match="--overwrite"):
            copy_to(gallery, str(target))
        content = target.read_bytes()
        monkeypatch.setattr(os, "replace", _failing)
        with pytest.raises(StorageError):
            copy_to(gallery, str(target), overwrite=True)
        monkeypatch.undo()
        assert target.read_bytes() == content
        assert [file.name for file in target.parent.iterdir()] == ["copy.claid"]
        gallery.close()
    with opened(path, "rw") as gallery:
        gallery.add([new_image(77)])
        copy_to(gallery, str(target), overwrite=True)
    with opened(target) as copied:
        assert len(copied) == 31


def _failing(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_a_copy_refuses(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as gallery:
        with pytest.raises(UsageError, match="itself"):
            copy_to(gallery, str(path), overwrite=True)
        with pytest.raises(StorageError, match="no folder"):
            copy_to(gallery, str(tmp_path / "none" / "c.claid"))
        copy_to(gallery, str(tmp_path / "c.claid"))
        with opened(tmp_path / "c.claid") as used:
            len(used)
            with pytest.raises(StorageError, match="in use"):
                copy_to(gallery, str(tmp_path / "c.claid"), overwrite=True)
        monkeypatch.setattr("edge_claid.gallery.storage.medium.free_bytes", lambda path: 1000)
        with pytest.raises(StorageError, match="free"):
            copy_to(gallery, str(tmp_path / "d.claid"))
    assert sorted(os.listdir(tmp_path)) == ["c.claid", "g.claid"]


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_copy_into_a_folder_of_somebody_else(path: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with opened(path) as gallery, pytest.raises(StorageError, match="closed may not be written by this user"):
        copy_to(gallery, str(tmp_path / "closed" / "c.claid"))


def test_a_gallery_from_outside(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.claid"
    with opened(path) as gallery:
        assert import_gallery(gallery, str(new), MadeUpSpace.from_bytes) == 30
        with pytest.raises(UsageError, match="merge"):
            import_gallery(gallery, str(new), MadeUpSpace.from_bytes)
    with opened(new) as gallery:
        assert list(verify(gallery)) == []


@pytest.mark.parametrize("seed", range(40))
def test_hostile_galleries_are_refused(path: Path, tmp_path: Path, seed: int) -> None:
    """Whatever bytes are changed: an error of ours and no file, or a gallery that verifies."""
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    if seed % 4 == 0:
        content = content[: rng.randrange(100, len(content))]
    for _ in range(rng.choice([1, 5, 200])):
        place = rng.randrange(len(content))
        content[place : place + 1] = rng.randbytes(1)
    hostile, new = tmp_path / "h.claid", tmp_path / "new.claid"
    hostile.write_bytes(content)
    refused = None
    try:
        with opened(hostile) as gallery:
            import_gallery(gallery, str(new), MadeUpSpace.from_bytes)
    except EdgeClaidError as error:
        refused = error
    if refused is None:
        with opened(new) as gallery:
            assert list(verify(gallery)) == []
    else:
        assert refused.exit_code in (2, 8, 9)
        assert (
            {"g.claid", "h.claid"} <= set(os.listdir(tmp_path)) <= {"g.claid", "h.claid", "h.claid-wal", "h.claid-shm"}
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE codes SET content = zeroblob(length(content)) WHERE image = 1",
        "UPDATE images SET label = x'00ff' WHERE id = 2",
        "UPDATE images SET width = 'wide' WHERE id = 2",
        "UPDATE meta SET value = '{' WHERE key = 'describe_settings'",
        "UPDATE meta SET value = '9' WHERE key = 'descriptor_dim'",
    ],
)
def test_content_that_is_wrong_is_not_imported(path: Path, tmp_path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with opened(path) as gallery, pytest.raises(GalleryError, match="nothing was imported"):
        import_gallery(gallery, str(tmp_path / "new.claid"), MadeUpSpace.from_bytes)
    assert os.listdir(tmp_path) == ["g.claid"]
