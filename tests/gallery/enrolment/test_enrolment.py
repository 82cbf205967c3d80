"""Enrolment of folders with a made-up pipeline: what each file becomes, and what a second run costs."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_up import MadeUpPipeline, MadeUpSpace, described, write_picture

from edge_claid.errors import GalleryError, UsageError
from edge_claid.frames import open_source
from edge_claid.gallery.enrolment import enroll as enroll_module
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Summary
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.store import Gallery


class Bench:
    """A folder of pictures, a gallery file and runs of enrolment over them."""

    def __init__(self, folder: Path):
        self.photos = folder / "photos"
        self.photos.mkdir()
        self.gallery = folder / "g.claid"
        self.pipeline = MadeUpPipeline()

    def picture(self, name: str, seed: int, age: float = 100.0) -> Path:
        """Write a picture that is older than the clock's doubt."""
        path = write_picture(self.photos / name, seed)
        then = time.time() - age
        os.utime(path, (then, then))
        return path

    def open(self, mode: str = "create") -> Gallery:
        return Gallery.open(self.gallery, mode, read_space=MadeUpSpace.from_bytes)

    def enroll(self, *uris: Path | str, **options: object) -> dict[str, str]:
        """Status by path relative to photos/; reasons are kept in ``reasons``."""
        self.pipeline.frames_seen.clear()
        outcomes = []
        with self.open() as gallery:
            sources = [open_source(uri) for uri in uris or (self.photos,)]
            self.summary = enroll(gallery, sources, self.pipeline, EnrollOptions(**options), outcomes.append)
        names = [os.path.relpath(o.file, self.photos) for o in outcomes]
        self.reasons = {name: o.reason for name, o in zip(names, outcomes, strict=True)}
        assert len(set(names)) == len(names)
        return {name: o.status for name, o in zip(names, outcomes, strict=True)}

    def stored(self) -> dict[str, str | None]:
        with self.open("r") as gallery:
            return {row.path: row.label for row in gallery.images()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_added_then_unchanged_without_inference(bench: Bench) -> None:
    for i in range(5):
        bench.picture(f"{i}.png", i)
    assert bench.enroll() == {f"{i}.png": "added" for i in range(5)}
    assert bench.enroll() == {f"{i}.png": "unchanged" for i in range(5)}
    assert bench.pipeline.frames_seen == []
    assert len(bench.stored()) == 5


def test_regions_and_descriptors_come_back(bench: Bench) -> None:
    path = bench.picture("a.png", 1)
    bench.enroll()
    expected = described(int(open_source(path).__iter__().__next__().pixels.astype(np.int64).sum()))
    with bench.open("r") as gallery:
        row = next(gallery.images())
        regions = gallery.regions(row.id)
        index = gallery.load_index()
    for name in ("boxes", "parents", "depths", "areas", "energy", "connectivity", "masks"):
        np.testing.assert_array_equal(getattr(regions, name), getattr(expected.regions, name), name)
    assert (regions.grid, regions.image_size) == (expected.regions.grid, (64, 48))
    assert index.codes is None
    np.testing.assert_array_equal(index.descriptors, expected.descriptors.values.astype(np.float16))
    np.testing.assert_array_equal(index.boxes, expected.regions.boxes)


def test_changed_is_replaced_and_the_old_content_is_gone(bench: Bench) -> None:
    bench.picture("a.png", 1)
    bench.enroll()
    bench.picture("a.png", 2, age=50)
    assert bench.enroll() == {"a.png": "replaced"}
    with bench.open("r") as gallery:
        assert gallery.info().images == 1
        assert list(gallery.images(displaced=True)) == []


def test_moved_keeps_its_regions_without_inference(bench: Bench) -> None:
    path = bench.picture("a.png", 1)
    bench.enroll()
    (bench.photos / "cups").mkdir()
    path.rename(bench.photos / "cups" / "b.png")
    assert bench.enroll() == {"cups/b.png": "moved"}
    assert bench.pipeline.frames_seen == []
    assert bench.stored() == {"cups/b.png": "cups"}


def test_swapped_names_cost_no_inference(bench: Bench) -> None:
    a, b = bench.picture("a.png", 1), bench.picture("b.png", 2, age=200)
    bench.enroll()
    with bench.open("r") as gallery:
        before = {row.content_hash: row.id for row in gallery.images()}
    a.rename(bench.photos / "t")
    b.rename(a)
    (bench.photos / "t").rename(b)
    assert set(bench.enroll().values()) == {"moved"}
    assert bench.pipeline.frames_seen == []
    with bench.open("r") as gallery:
        assert {row.content_hash: row.id for row in gallery.images()} == before
        assert {row.path for row in gallery.images()} == {"a.png", "b.png"}


def test_chain_of_renames_with_a_new_file_at_its_head(bench: Bench) -> None:
    a, b = bench.picture("a.png", 1), bench.picture("b.png", 2, age=200)
    bench.enroll()
    b.rename(bench.photos / "c.png")
    a.rename(b)
    bench.picture("a.png", 3, age=300)
    bench.enroll()
    assert len(bench.pipeline.frames_seen) == 1
    assert set(bench.stored()) == {"a.png", "b.png", "c.png"}


def test_a_copy_is_one_image(bench: Bench) -> None:
    path = bench.picture("a.png", 1)
    shutil.copy2(path, bench.photos / "z.png")
    assert bench.enroll() == {"a.png": "added", "z.png": "unchanged"}
    assert "photos/a.png" in bench.reasons["z.png"]
    assert bench.enroll() == {"a.png": "unchanged", "z.png": "unchanged"}
    path.unlink()
    assert bench.enroll() == {"z.png": "moved"}
    assert list(bench.stored()) == ["z.png"]


def test_prune_removes_only_what_is_gone(bench: Bench) -> None:
    bench.picture("a.png", 1), bench.picture("b.png", 2)
    bench.enroll()
    (bench.photos / "b.png").unlink()
    assert bench.enroll() == {"a.png": "unchanged"}
    assert bench.enroll(prune=True) == {"a.png": "unchanged", "b.png": "removed"}
    assert list(bench.stored()) == ["a.png"]


def test_prune_never_empties_a_gallery_because_a_folder_is_empty(bench: Bench) -> None:
    bench.picture("a.png", 1)
    bench.enroll()
    (bench.photos / "a.png").unlink()
    assert bench.enroll(prune=True) == {}
    assert list(bench.stored()) == ["a.png"]


def test_prune_needs_a_folder(bench: Bench) -> None:
    with pytest.raises(UsageError, match="prune"):
        bench.enroll(bench.picture("a.png", 1), prune=True)


def test_one_bad_frame_does_not_end_the_run(bench: Bench) -> None:
    for seed, name in enumerate(("a.png", "bad.png", "c.png")):
        bench.picture(name, seed)
    bench.pipeline = MadeUpPipeline(fail_on="bad.png")
    assert bench.enroll() == {"a.png": "added", "bad.png": "rejected", "c.png": "added"}
    assert bench.reasons["bad.png"] == "made to fail"


def test_two_folders_of_one_name_stay_apart(bench: Bench, tmp_path: Path) -> None:
    for number in (1, 2):
        write_picture(tmp_path / str(number) / "shop" / "x.png", number)
    bench.enroll(tmp_path / "1" / "shop", tmp_path / "2" / "shop")
    with bench.open("r") as gallery:
        assert [(row.root, row.path) for row in gallery.images()] == [("shop", "x.png")] * 2


def test_a_folder_moved_as_a_whole_costs_no_inference(bench: Bench) -> None:
    bench.picture("a.png", 1)
    bench.enroll()
    other = bench.photos.parent / "elsewhere" / "photos"
    other.parent.mkdir()
    bench.photos.rename(other)
    assert set(bench.enroll(other).values()) == {"unchanged"}
    assert bench.pipeline.frames_seen == []


def test_another_pipeline_is_refused_by_name_of_what_differs(bench: Bench) -> None:
    bench.picture("a.png", 1)
    bench.enroll()
    bench.pipeline = MadeUpPipeline("bb22", {"network": "made-up", "regions": {"alpha": 0.3, "sizes": [1, 2]}})
    with pytest.raises(GalleryError, match=r"regions\.alpha: gallery 0\.2, here 0\.3") as refused:
        bench.enroll()
    assert refused.value.exit_code == 8
    assert "sizes" not in str(refused.value)


def test_labels(bench: Bench) -> None:
    bench.picture("cups/a.png", 1), bench.picture("b.png", 2)
    bench.enroll()
    assert bench.stored() == {"cups/a.png": "cups", "b.png": None}
    bench.enroll(labels=Labels(table={"b.png": "bowl"}))
    assert bench.pipeline.frames_seen == []
    assert bench.stored() == {"cups/a.png": "cups", "b.png": "bowl"}
    bench.enroll()
    assert bench.stored()["b.png"] == "bowl"


def test_dry_run_tells_and_writes_nothing(bench: Bench) -> None:
    a = bench.picture("a.png", 1)
    bench.picture("b.png", 2)
    bench.enroll()
    bench.picture("b.png", 3, age=50)
    bench.picture("c.png", 4)
    a.rename(bench.photos / "d.png")
    content = bench.gallery.read_bytes()
    outcomes = []
    with bench.open("r") as gallery:
        options = EnrollOptions(dry_run=True, prune=True)
        summary = enroll(gallery, [open_source(bench.photos)], None, options, outcomes.append)
    statuses = {os.path.basename(o.file): o.status for o in outcomes}
    assert statuses == {"b.png": "replaced", "c.png": "added", "d.png": "moved"}
    assert summary.counts["added"] == 1
    assert bench.gallery.read_bytes() == content


def test_dry_run_of_a_prune_is_what_the_prune_does(bench: Bench) -> None:
    a, b, _ = (bench.picture(f"{name}.png", seed) for seed, name in enumerate("abc"))
    bench.enroll()
    shutil.copy2(a, bench.photos / "z.png")
    a.unlink()
    b.unlink()
    told = []
    with bench.open("r") as gallery:
        enroll(gallery, [open_source(bench.photos)], None, EnrollOptions(dry_run=True, prune=True), told.append)
    done = bench.enroll(prune=True)
    assert {os.path.basename(one.file): one.status for one in told} == done
    assert set(done.values()) == {"moved", "removed", "unchanged"}


def test_code_space_is_trained_once_there_are_regions_enough(bench: Bench) -> None:
    for i in range(3):
        bench.picture(f"{i}.png", i)
    trained = []

    def train(gallery: Gallery, pipeline: object) -> MadeUpSpace:
        trained.append(gallery.descriptors(100).shape)
        return MadeUpSpace()

    bench.enroll(train=train, train_least=13)
    assert trained == []
    bench.picture("3.png", 3)
    bench.enroll(train=train, train_least=13)
    assert trained == [(16, 24)]
    bench.picture("4.png", 4)
    bench.enroll(train=train, train_least=13)
    assert len(trained) == 1
    with bench.open("r") as gallery:
        index = gallery.load_index()
        assert gallery.info().described_images == 0
    assert index.descriptors is None
    assert index.codes.shape == (20, 3)
    assert len(np.unique(index.codes, axis=0)) == 20


def test_a_gallery_that_has_outgrown_its_code_book_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.picture("a.png", 1)
    bench.enroll()
    assert bench.summary.outgrown is None
    monkeypatch.setattr(enroll_module, "drift_warning", lambda gallery: f"{gallery.path} has outgrown it")
    bench.enroll()
    assert bench.summary.outgrown == f"{bench.gallery} has outgrown it"


def test_the_rate_leaves_the_training_out() -> None:
    summary = Summary(Counter(added=8, unchanged=5), seconds=6.0, training_seconds=4.0)
    assert summary.images_per_second == 4.0
    assert Summary(Counter(added=8), seconds=0.1, rehearsed=True).images_per_second == 0.0


def test_progress_of_the_training_is_told(bench: Bench) -> None:
    for i in range(5):
        bench.picture(f"{i}.png", i)
    told: list[tuple[str, int, int]] = []
    bench.enroll(train=lambda gallery, pipeline: MadeUpSpace(), train_least=1, training=lambda *step: told.append(step))
    assert told[-1] == ("coding pictures in the new code space", 5, 5)


def test_stop_ends_it_with_what_is_in_work(bench: Bench) -> None:
    for i in range(40):
        bench.picture(f"{i:02}.png", i)
    stop = threading.Event()

    class Stopping(MadeUpPipeline):
        def describe_many(self, frames):  # type: ignore[no-untyped-def]
            for number, result in enumerate(super().describe_many(frames)):
                if number == 5:
                    stop.set()
                yield result

    bench.pipeline = Stopping()
    told = bench.enroll(stop=stop, prune=True)
    assert bench.summary.stopped
    assert 6 <= len(told) < 40
    assert len(bench.stored()) == len(told)
    bench.pipeline = MadeUpPipeline()
    assert sorted(bench.enroll().values()).count("added") == 40 - len(told)


def test_codes_are_the_same_before_and_after_the_space(bench: Bench) -> None:
    for i in range(4):
        bench.picture(f"{i}.png", i)
    bench.enroll(keep_descriptors=True)
    with bench.open("rw") as gallery:
        gallery.adopt_space(MadeUpSpace())
        later = gallery.load_index(exact=True)
    os.replace(bench.gallery, bench.gallery.with_suffix(".old"))
    with bench.open() as gallery:
        gallery.adopt_space(MadeUpSpace())
    bench.enroll(keep_descriptors=True)
    with bench.open("r") as gallery:
        at_once = gallery.load_index(exact=True)
    np.testing.assert_array_equal(later.codes, at_once.codes)
    np.testing.assert_array_equal(later.descriptors, at_once.descriptors)
