"""Enrolment when things go wrong around it, and after any history of the folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import MadeUpPipeline, MadeUpSpace, picture_bytes, write_picture

from edge_claid.errors import MachineError, SourceError, StorageError
from edge_claid.frames import open_source
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify
from edge_claid.records import Described, Frame


def open_gallery(path: Path | str, mode: str = "create") -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes)


def run(folder: Path, gallery: Gallery, pipeline: MadeUpPipeline | None = None, **options: object) -> list[Outcome]:
    told: list[Outcome] = []
    enroll(gallery, [open_source(folder)], pipeline or MadeUpPipeline(), EnrollOptions(**options), told.append)
    return told


def content_hash(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=32).digest()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(20):
        write_picture(tmp_path / "photos" / f"{i:02}.png", i)
    return tmp_path / "photos"


ACTIONS = st.tuples(st.sampled_from(("write", "move", "copy", "delete", "enrol")), st.integers(0, 4), st.integers(0, 4))


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=14))
def test_after_any_history_the_gallery_is_what_the_folder_is(actions: list[tuple[str, int, int]]) -> None:
    """Contents once each, every path true, nothing described twice, whatever was written, moved, copied, deleted."""
    with tempfile.TemporaryDirectory() as name, open_gallery(f"{name}/g.claid") as gallery:
        folder = Path(name, "photos")
        (folder / "sub").mkdir(parents=True)
        places = [folder / n for n in ("a.png", "b.png", "c.png", "sub/a.png", "sub/d.png")]
        # One file that stays, since a folder without any is taken for a pulled stick.
        (folder / "stays.png").write_bytes(picture_bytes(99))
        pipeline = MadeUpPipeline()
        for action, first, second in [*actions, ("enrol", 0, 0)]:
            if action == "write":
                places[first].write_bytes(picture_bytes(second))
            elif action == "enrol":
                run(folder, gallery, pipeline, prune=first % 2 == 0)
                for row in gallery.images():
                    if (folder / row.path).exists():
                        assert content_hash(folder / row.path) == row.content_hash
            elif places[first].exists() and first != second:
                {"move": os.replace, "copy": shutil.copy2, "delete": lambda a, b: a.unlink()}[action](
                    places[first], places[second]
                )
        run(folder, gallery, pipeline, prune=True)
        on_disk = {content_hash(path) for path in folder.rglob("*.png")}
        rows = list(gallery.images())
        assert {row.content_hash for row in rows} == on_disk
        assert len(rows) == len(on_disk)
        assert list(gallery.images(displaced=True)) == []
        assert all(content_hash(folder / row.path) == row.content_hash for row in rows)
        assert list(verify(gallery)) == []
        assert {o.status for o in run(folder, gallery, pipeline)} == {"unchanged"}


def test_what_enrols_twice_at_once_is_stored_once(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "g.claid"
    open_gallery(path).close()
    told: list[list[Outcome]] = []

    def one() -> None:
        with open_gallery(path) as gallery:
            told.append(run(photos, gallery))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [len(outcomes) for outcomes in told] == [20] * 3
    assert sum(o.status == "added" for outcomes in told for o in outcomes) == 20
    with open_gallery(path, "r") as gallery:
        assert len(gallery) == 20
        assert list(verify(gallery)) == []


def test_a_full_disk_ends_it_with_what_was_told_safe(photos: Path, tmp_path: Path) -> None:
    told: list[Outcome] = []
    with open_gallery(tmp_path / "g.claid") as gallery:
        run_first = EnrollOptions()
        enroll(gallery, [open_source(photos / "00.png")], MadeUpPipeline(), run_first, told.append)
        with gallery.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="no space left"):
            enroll(gallery, [open_source(photos)], MadeUpPipeline(), None, told.append)
        assert len(gallery) == sum(o.status == "added" for o in told) == 1
        with gallery.reading() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        assert sum(o.status == "added" for o in run(photos, gallery)) == 19
    assert threading.active_count() < 5


def test_a_machine_that_fails_ends_it_after_committing_what_was_described(photos: Path, tmp_path: Path) -> None:
    class Failing(MadeUpPipeline):
        def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
            for number, result in enumerate(super().describe_many(frames)):
                yield MachineError("the network fell over") if number == 7 else result

    told: list[Outcome] = []
    with open_gallery(tmp_path / "g.claid") as gallery:
        with pytest.raises(MachineError, match="fell over"):
            enroll(gallery, [open_source(photos)], Failing(), None, told.append)
        assert len(gallery) == 7
        assert [o.status for o in told] == ["added"] * 7


def test_a_stick_pulled_on_the_way(photos: Path, tmp_path: Path) -> None:
    """What was read is kept, the rest is told as lost and not as rejected, and pruning takes nothing for deleted."""

    class Pulled(PictureFiles):
        def files(self):  # type: ignore[no-untyped-def]
            for file in list(super().files()):
                if file.relative == "10.png":
                    os.rename(self.root, self.root + " was here")
                yield file

    with open_gallery(tmp_path / "g.claid") as gallery:
        run(photos / ".." / "photos", gallery)
        for i in range(20):
            write_picture(photos / f"{i:02}.png", 100 + i)
        told: list[Outcome] = []
        options = EnrollOptions(prune=True)
        summary = enroll(gallery, [Pulled(str(photos), str(photos))], MadeUpPipeline(), options, told.append)
        assert [(o.file, o.reason) for o in told if o.status != "replaced"] == []
        assert list(summary.lost) == [str(photos)]
        assert len(gallery) == 20
        with pytest.raises(SourceError, match=r"was lost \(no such file or directory\).*run the same command") as lost:
            summary.require_sources()
        assert lost.value.exit_code == 7
        assert list(verify(gallery)) == []


def test_pictures_are_decoded_ahead_within_bounds(tmp_path: Path) -> None:
    """The feed never holds more decoded pixels than its budget, however slow the networks are."""
    for i in range(30):
        write_picture(tmp_path / "photos" / f"{i:02}.png", i, size=(2000, 1000))
    decoded, seen, most = [0], [0], [0]

    class Counting(PictureFiles):
        def decode(self, fetched, name):  # type: ignore[no-untyped-def]
            decoded[0] += 1
            return super().decode(fetched, name)

    class Watching(MadeUpPipeline):
        def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
            for result in super().describe_many(frames):
                seen[0] += 1
                most[0] = max(most[0], decoded[0] - seen[0])
                yield result

    with open_gallery(tmp_path / "g.claid") as gallery:
        source = Counting("p", str(tmp_path / "photos"))
        summary = enroll(gallery, [source], Watching())
    assert summary.counts["added"] == 30
    assert 1 <= most[0] <= 9
