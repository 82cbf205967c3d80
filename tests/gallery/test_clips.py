"""Videos in an enrolled folder: their key frames are images that come, move, change and go like pictures."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import MadeUpPipeline, MadeUpSpace, write_picture

from edge_claid.errors import BadImageError, StorageError
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery.enrolment import enroll as enroll_module
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.repair import repair
from edge_claid.gallery.upkeep.verify import verify

sys.path.insert(0, str(Path(__file__).parent.parent / "frames"))

from made_up_video import write_video


class Bench:
    def __init__(self, folder: Path):
        self.films = folder / "films"
        self.films.mkdir()
        self.path = folder / "g.claid"
        self.pipeline = MadeUpPipeline()
        self.decoded: list[str] = []

    def video(self, name: str, *scenes: int) -> Path:
        path = write_video(self.films / name, list(scenes))
        os.utime(path, (time.time() - 60,) * 2)
        return path

    def open(self, mode: str = "create") -> Gallery:
        return Gallery.open(self.path, mode, read_space=MadeUpSpace.from_bytes)

    def source(self, every: float | None = 1.0) -> PictureFiles:
        bench = self

        class Counting(PictureFiles):
            def key_frames(self, file) -> Iterator:  # type: ignore[no-untyped-def]
                bench.decoded.append(file.relative)
                return super().key_frames(file)

        return Counting("films", str(self.films), video_every=every)

    def enroll(self, every: float | None = 1.0, **options: object) -> dict[str, str]:
        """Status by path; descriptions and decoded videos are counted anew."""
        self.pipeline.frames_seen.clear()
        self.decoded.clear()
        self.reasons: dict[str, str | None] = {}
        told: dict[str, str] = {}

        def tell(outcome) -> None:  # type: ignore[no-untyped-def]
            name = os.path.relpath(outcome.file, self.films)
            assert name not in told
            told[name], self.reasons[name] = outcome.status, outcome.reason

        with self.open() as gallery:
            self.summary = enroll(gallery, [self.source(every)], self.pipeline, EnrollOptions(**options), tell)
            assert list(verify(gallery)) == []
        return told

    def stored(self) -> dict[str, str | None]:
        with self.open("r") as gallery:
            assert list(gallery.images(displaced=True)) == []
            return {row.path: row.label for row in gallery.images()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_added_then_unchanged_by_a_stat(bench: Bench) -> None:
    bench.video("cups/a.mp4", 1, 2, 2)
    write_picture(bench.films / "b.png", 1)
    assert bench.enroll() == {"b.png": "added", "cups/a.mp4#t=0.000": "added", "cups/a.mp4#t=1.000": "added"}
    assert bench.stored() == {"b.png": None, "cups/a.mp4#t=0.000": "cups", "cups/a.mp4#t=1.000": "cups"}
    assert bench.enroll()["cups/a.mp4"] == "unchanged"
    assert bench.reasons["cups/a.mp4"] == "2 key frames"
    assert (bench.pipeline.frames_seen, bench.decoded) == ([], [])


def test_left_out_on_demand(bench: Bench) -> None:
    bench.video("a.mp4", 1)
    assert bench.enroll(every=None) == {"a.mp4": "skipped"}


def test_touched_and_moved_cost_a_hash(bench: Bench) -> None:
    path = bench.video("cups/a.mp4", 1, 2)
    bench.enroll()
    os.utime(path, (time.time() - 30,) * 2)
    assert bench.enroll() == {"cups/a.mp4": "unchanged"}
    assert bench.decoded == []
    (bench.films / "bowls").mkdir()
    path.rename(bench.films / "bowls" / "b.mp4")
    assert bench.enroll() == {"bowls/b.mp4": "moved"}
    assert bench.reasons["bowls/b.mp4"].endswith("was cups/a.mp4")
    assert (bench.pipeline.frames_seen, bench.decoded) == ([], [])
    assert bench.stored() == {"bowls/b.mp4#t=0.000": "bowls", "bowls/b.mp4#t=1.000": "bowls"}
    assert bench.enroll() == {"bowls/b.mp4": "unchanged"}


def test_replaced_by_a_shorter_one(bench: Bench) -> None:
    bench.video("a.mp4", 1, 2, 3)
    bench.enroll()
    bench.video("a.mp4", 4, 5)
    assert bench.enroll() == {"a.mp4#t=0.000": "replaced", "a.mp4#t=1.000": "replaced"}
    assert set(bench.stored()) == {"a.mp4#t=0.000", "a.mp4#t=1.000"}


def test_swapped_names_cost_no_inference(bench: Bench) -> None:
    a, b = bench.video("a.mp4", 1, 2), bench.video("b.mp4", 3, 4, 5)
    bench.enroll()
    os.utime(b, (time.time() - 30,) * 2)
    a.rename(bench.films / "t"), b.rename(a), (bench.films / "t").rename(b)
    assert "added" not in bench.enroll().values()
    assert bench.pipeline.frames_seen == []
    assert len(bench.stored()) == 5
    assert set(bench.enroll().values()) == {"unchanged"}


def test_a_copy_is_stored_once_and_takes_over(bench: Bench) -> None:
    path = bench.video("a.mp4", 1, 2)
    bench.enroll()
    shutil.copy2(path, bench.films / "z.mp4")
    assert bench.enroll() == {"a.mp4": "unchanged", "z.mp4": "unchanged"}
    assert "same content as films/a.mp4" in bench.reasons["z.mp4"]
    path.unlink()
    assert bench.enroll(prune=True) == {"z.mp4": "moved"}
    assert set(bench.stored()) == {"z.mp4#t=0.000", "z.mp4#t=1.000"}


def test_a_frame_that_was_removed_comes_back_like_a_picture(bench: Bench) -> None:
    bench.video("a.mp4", 1, 2, 3)
    bench.video("b.mp4", 4)
    bench.enroll()
    with bench.open("rw") as gallery:
        assert gallery.remove([row.id for row in gallery.images() if row.path == "a.mp4#t=1.000"]) == 1
    told = bench.enroll()
    assert {name for name, status in told.items() if status == "added"} == {"a.mp4#t=1.000"}
    assert len(bench.pipeline.frames_seen) == 1
    assert bench.enroll() == {"a.mp4": "unchanged", "b.mp4": "unchanged"}


def test_a_frame_that_a_repair_lost_comes_back(bench: Bench) -> None:
    bench.video("a.mp4", 1, 2, 3)
    bench.enroll()
    with bench.open("rw") as gallery, gallery.writing() as connection:
        connection.execute("UPDATE regions SET checksum = 0 WHERE image = 2")
    assert repair(str(bench.path), read_space=MadeUpSpace.from_bytes).images == 2
    assert "added" in bench.enroll().values()
    assert len(bench.stored()) == 3
    assert bench.enroll() == {"a.mp4": "unchanged"}


def test_prune_takes_all_frames_of_a_video_that_is_gone(bench: Bench) -> None:
    path = bench.video("a.mp4", 1, 2)
    bench.video("b.mp4", 3)
    bench.enroll()
    path.unlink()
    assert bench.enroll() == {"b.mp4": "unchanged"}
    told = bench.enroll(prune=True)
    assert told == {"b.mp4": "unchanged", "a.mp4#t=0.000": "removed", "a.mp4#t=1.000": "removed"}


def test_another_spacing_looks_again_and_describes_only_what_is_new(bench: Bench) -> None:
    bench.video("a.mp4", 1, 2, 3, 4)
    bench.enroll(every=2.0)
    told = bench.enroll(every=1.0)
    assert {name for name, status in told.items() if status == "added"} == {"a.mp4#t=1.000", "a.mp4#t=3.000"}
    assert bench.enroll(every=1.0) == {"a.mp4": "unchanged"}
    bench.enroll(every=2.0)
    assert set(bench.stored()) == {"a.mp4#t=0.000", "a.mp4#t=2.000"}


def test_labels_of_a_video_are_its_frames(bench: Bench) -> None:
    bench.video("a.mp4", 1, 2)
    (bench.films / "a.json").write_text('{"label": "from the side"}')
    bench.enroll()
    assert set(bench.stored().values()) == {"from the side"}
    bench.enroll(labels=Labels(table={"a.mp4": "from the table"}))
    assert set(bench.stored().values()) == {"from the table"}
    assert bench.decoded == []


def test_a_damaged_video_keeps_what_decodes_and_is_reported(bench: Bench) -> None:
    path = write_video(bench.films / "a.mkv", [1, 2, 3, 4, 5, 6], size=(192, 128))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    os.utime(path, (time.time() - 60,) * 2)
    (bench.films / "b.mp4").write_bytes(b"no video")
    told = bench.enroll()
    assert told["a.mkv#t=0.000"] == "added"
    assert (told["a.mkv"], told["b.mp4"]) == ("rejected", "rejected")
    assert "what could be decoded is kept" in bench.reasons["a.mkv"]
    assert "not a video" in bench.reasons["b.mp4"]
    assert bench.enroll()["a.mkv"] == "unchanged"


def test_interrupted_goes_on_with_the_frames_it_lacks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.video("a.mp4", *range(8))
    monkeypatch.setattr(enroll_module, "_BATCH_FILES", 2)
    room = [3]

    def full(path: str, done: int, reserve: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise StorageError("full")

    with monkeypatch.context() as patched:
        patched.setattr(enroll_module, "require_reserve", full)
        with pytest.raises(StorageError):
            bench.enroll()
    with bench.open("r") as gallery:
        first = len(gallery)
    assert first == 6
    told = bench.enroll()
    assert sorted(told.values()) == ["added"] * 2 + ["unchanged"] * 6
    assert len(bench.pipeline.frames_seen) == 2
    assert bench.enroll() == {"a.mp4": "unchanged"}


def test_a_stick_pulled_inside_a_video_leaves_it_to_be_finished(bench: Bench) -> None:
    bench.video("a.mp4", *range(6))
    source = bench.source()
    inner = source.key_frames

    def pulled(file) -> Iterator:  # type: ignore[no-untyped-def]
        for number, one in enumerate(inner(file)):
            if number == 3:
                bench.films.rename(bench.films.parent / "pulled")
                try:
                    os.stat(file.path)
                except OSError as error:
                    raise BadImageError(f"{file.path}: cannot be read") from error
            yield one

    source.key_frames = pulled  # type: ignore[method-assign]
    told = []
    with bench.open() as gallery:
        summary = enroll(gallery, [source], bench.pipeline, EnrollOptions(prune=True), told.append)
        assert len(gallery) == len(told) == 3
    assert list(summary.lost) == ["films"]
    (bench.films.parent / "pulled").rename(bench.films)
    assert sorted(bench.enroll().values()) == ["added"] * 3 + ["unchanged"] * 3


def test_rehearsed(bench: Bench) -> None:
    path = bench.video("a.mp4", 1, 2)
    bench.video("b.mp4", 3)
    bench.enroll()
    bench.video("c.mp4", 4)
    path.rename(bench.films / "d.mp4")
    assert bench.enroll(dry_run=True, prune=True) == {"b.mp4": "unchanged", "c.mp4": "added", "d.mp4": "moved"}
    assert "key frames" in bench.reasons["c.mp4"]
