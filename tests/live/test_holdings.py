"""A gallery that changes, or is replaced, while it is searched."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gallery"))
from made_up import DIM, MadeUpPipeline, described
from made_up_stream import unit

from edge_claid import ops
from edge_claid.config import LiveSettings
from edge_claid.errors import GalleryError
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.live.holdings import WatchedGallery
from edge_claid.live.look import Look
from edge_claid.live.recognise import Recogniser
from edge_claid.live.threshold import Threshold

SETTINGS = LiveSettings(match=0.3)


class Viewless(MadeUpPipeline):
    """Its pictures cannot be read again, so nothing is calibrated."""

    def described_views(self, pictures, count):
        return iter([None for _ in pictures])


def stock(path, seeds, labels=None, pipeline=None):
    pipeline = pipeline or Viewless()
    with Gallery.open(path, "create") as gallery:
        gallery.bind(pipeline.id, pipeline.describe_settings, DIM)
        root = register_root(gallery, str(path.parent), "r").id
        for seed in seeds:
            label = (labels or {}).get(seed)
            gallery.add([NewImage(root, f"{seed}.png", bytes([seed]) * 32, 9, 9, described(seed), label)])
    return path


def watched(path, pipeline=None):
    return WatchedGallery(str(path), pipeline or Viewless(), ops.load("reference").code_scan)


def names(gallery, seed):
    seen = described(seed)
    look = Look(seen.regions, seen.descriptors.values)
    recogniser = Recogniser(SETTINGS, Threshold.of(SETTINGS))
    found = recogniser.sightings(look, gallery.holdings, [], 18_000)
    return {one.gallery_image for one in found if one.item and one.score > 0.55}


def test_what_is_enrolled_meanwhile_appears_without_a_restart(tmp_path):
    path = stock(tmp_path / "g.claid", range(6))
    with watched(path) as gallery:
        assert names(gallery, 3) == {"3.png"}
        assert names(gallery, 9) == set()
        assert gallery.poll() is None
        stock(path, [9])
        event = gallery.poll()
        assert (event.event, event.state, event.facts) == ("gallery", "updated", {"images": 7})
        assert names(gallery, 9) == {"9.png"}
        assert gallery.poll() is None


def test_what_is_removed_or_relabelled_meanwhile_is_known_too(tmp_path):
    path = stock(tmp_path / "g.claid", range(6), {2: "cup", 3: "mug"})
    with watched(path) as gallery:
        assert gallery.holdings.namable.key_of == {3: "cup", 4: "mug"}
        assert names(gallery, 3) == {"3.png"}
        assert names(gallery, 5) == set()
        with Gallery.open(path, "rw") as writer:
            writer.remove([3])
            with writer.writing() as connection:
                connection.execute("UPDATE images SET label = 'jar' WHERE id = 4")
        assert gallery.poll().facts == {"images": 5}
        assert {item.label for item in gallery.holdings.items.values()} == {None, "jar"}
        assert names(gallery, 2) == set()


def test_an_empty_gallery_names_nothing_until_something_is_enrolled(tmp_path):
    path = stock(tmp_path / "g.claid", [])
    with watched(path) as gallery:
        assert names(gallery, 1) == set()
        assert np.array_equal(gallery.holdings.project(unit(0)[None]), unit(0)[None])
        stock(path, range(3))
        assert gallery.poll().facts == {"images": 3}
        assert names(gallery, 1) == {"1.png"}


def test_a_gallery_of_another_pipeline_is_refused_at_the_start(tmp_path):
    path = stock(tmp_path / "g.claid", range(2), pipeline=Viewless("other", {"network": "another"}))
    with pytest.raises(GalleryError, match="another pipeline") as refused:
        watched(path)
    assert refused.value.exit_code == 8


def test_a_replacement_of_another_pipeline_is_refused_once_and_the_old_one_goes_on(tmp_path):
    path = stock(tmp_path / "g.claid", range(6))
    other = stock(tmp_path / "other.claid", [9], pipeline=Viewless("other", {"network": "another"}))
    fitting = stock(tmp_path / "fitting.claid", range(9, 15))
    with watched(path) as gallery:
        os.replace(other, path)
        event = gallery.poll()
        assert (event.state, "another pipeline" in event.facts["reason"]) == ("refused", True)
        assert gallery.poll() is None
        assert names(gallery, 3) == {"3.png"}
        os.replace(fitting, path)
        assert gallery.poll().facts == {"images": 6}
        assert names(gallery, 9) == {"9.png"}
        assert names(gallery, 3) == set()


@pytest.mark.parametrize("content", [b"", b"no gallery" * 50])
def test_a_replacement_that_is_no_gallery_is_refused(tmp_path, content):
    path = stock(tmp_path / "g.claid", range(6))
    with watched(path) as gallery:
        (tmp_path / "junk").write_bytes(content)
        os.replace(tmp_path / "junk", path)
        assert gallery.poll().state == "refused"
        assert names(gallery, 3) == {"3.png"}
        path.unlink()
        assert "gone" in gallery.poll().facts["reason"]
        assert gallery.poll() is None
        assert names(gallery, 3) == {"3.png"}


def test_nothing_stays_open(tmp_path):
    path = stock(tmp_path / "g.claid", range(3))
    copy = shutil.copyfile(path, tmp_path / "copy.claid")
    before = len(os.listdir("/proc/self/fd"))
    with watched(path) as gallery:
        os.replace(copy, path)
        assert gallery.poll().state == "updated"
    assert len(os.listdir("/proc/self/fd")) == before


class Viewed(MadeUpPipeline):
    """Gives views of its pictures once it is let."""

    def __init__(self):
        super().__init__()
        self.let, self.looked = threading.Event(), 0

    def described_views(self, pictures, count):
        for path, _ in pictures:
            assert self.let.wait(30)
            self.looked += 1
            own = described(int(Path(path).stem)).descriptors.values
            yield np.repeat(own[None], 1 + count, axis=0)


def test_the_first_start_does_not_wait_for_the_measurement(tmp_path):
    path, pipeline = stock(tmp_path / "g.claid", range(30)), Viewed()
    with watched(path, pipeline) as gallery:
        assert not gallery.holdings.calibration.measured
        assert names(gallery, 3) == {"3.png"}
        assert gallery.wait_measured(0) is False
        pipeline.let.set()
        assert gallery.wait_measured(30)
        assert gallery.holdings.calibration.measured
        found = gallery.holdings.calibration
    with watched(path, Viewless()) as again:
        assert again.holdings.calibration == found


def test_a_measurement_ends_with_the_look_up(tmp_path):
    pipeline = Viewed()
    with watched(stock(tmp_path / "g.claid", range(30)), pipeline):
        threading.Timer(0.2, pipeline.let.set).start()
    assert pipeline.looked <= 1


def test_a_gallery_of_a_few_pictures_is_not_measured(tmp_path):
    with watched(stock(tmp_path / "g.claid", range(6)), Viewed()) as gallery:
        assert gallery.wait_measured(0)
        assert not gallery.holdings.calibration.measured
