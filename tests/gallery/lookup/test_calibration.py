"""Scores to probabilities: on made-up scores whose right probability is known, and on a made-up gallery."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from made_up import DIM, MadeUpPipeline, described, write_picture

from edge_claid import ops
from edge_claid.gallery.lookup import calibrate, calibration
from edge_claid.gallery.lookup.calibration import Calibration
from edge_claid.gallery.lookup.region_lookup import look_up, looking
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage import identity
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery


def gumbel(rng, count, place=0.3, spread=0.05):
    return place - spread * np.log(-np.log(rng.random(count)))


def test_the_false_side_is_recovered():
    curve = calibration.fit(np.full(50, 0.9), gumbel(np.random.default_rng(0), 4000))
    assert (curve.place, curve.spread) == pytest.approx((0.3, 0.05), abs=0.005)


def test_unlabelled_true_pairs_among_the_false_do_not_move_it():
    rng = np.random.default_rng(1)
    wrong = np.concatenate([gumbel(rng, 1000), rng.uniform(0.85, 1.0, 70)])
    curve = calibration.fit(np.full(50, 0.9), wrong)
    assert (curve.place, curve.spread) == pytest.approx((0.3, 0.05), abs=0.015)


def test_probabilities_are_right_where_the_truth_is_known():
    """True scores as the fit holds them: half as in the views, half spread evenly below."""
    rng = np.random.default_rng(2)
    views = rng.normal(0.85, 0.04, 4000)
    curve = calibration.fit(views, gumbel(rng, 4000))
    true = np.concatenate([views[:2000], rng.uniform(0.32, 0.85, 2000)])
    scores = np.concatenate([true, gumbel(rng, 4000)])
    truth = np.repeat([1.0, 0.0], 4000)
    told = curve.match(scores)
    for low in np.arange(0.0, 1.0, 0.2):
        inside = (told >= low) & (told < low + 0.2)
        assert inside.sum() > 50
        assert truth[inside].mean() == pytest.approx(told[inside].mean(), abs=0.12)


def test_the_rate_of_false_alarms_is_kept():
    rng = np.random.default_rng(3)
    curve = calibration.fit(np.full(50, 0.9), gumbel(rng, 20_000))
    hours, frames = 20, 18_000
    for rate in (3600.0, 360.0, 36.0):
        alarms = (gumbel(rng, hours * frames) > curve.score_for_rate(rate, frames)).sum() / hours
        assert rate / 2 < alarms < rate * 2


def test_rarer_alarms_need_higher_scores_and_higher_scores_are_surer():
    curve = calibration.fit(np.full(50, 0.9), gumbel(np.random.default_rng(4), 500))
    levels = [curve.score_for_rate(rate, 18_000) for rate in (1000, 100, 10, 1, 0.1)]
    assert levels == sorted(levels)
    assert (np.diff(curve.match(np.linspace(-1, 1, 50))) >= 0).all()
    assert curve.match(curve.score_at(0.8)) == pytest.approx(0.8)
    assert math.isfinite(curve.score_for_rate(1e9, 0.0))


def test_too_few_scores_say_nothing():
    assert calibration.fit(np.full(2, 0.9), np.full(100, 0.1)) is None
    assert calibration.fit(np.full(20, 0.9), np.full(5, 0.1)) is None
    assert calibration.fit(np.empty(0), np.empty(0)) is None


def test_sides_that_do_not_overlap_give_a_finite_curve():
    curve = calibration.fit(np.full(50, 0.99), np.full(50, 0.01))
    assert all(math.isfinite(value) for value in (curve.slope, curve.centre, curve.place, curve.spread))
    assert 0.01 < curve.centre < 0.99


@pytest.mark.parametrize("change", [{"slope": -1}, {"spread": 0}, {"place": math.nan}, {"slope": "x"}, {"true": None}])
def test_a_hostile_record_is_none(change):
    assert Calibration.from_record({**asdict(Calibration(20, 0.4, 0.3, 0.05, 9, 9)), **change}) is None


class ViewingPipeline(MadeUpPipeline):
    """Views of a picture are its own descriptors with a little noise."""

    def __init__(self, stored):
        super().__init__()
        self._stored, self.asked = stored, 0

    def described_views(self, pictures, count):
        rng = np.random.default_rng(0)
        for path, boxes in pictures:
            self.asked += 1
            own = self._stored[path.rsplit("/", 1)[-1]]
            assert len(boxes) == len(own)
            noisy = own + rng.normal(0, 0.05, (1 + count, *own.shape)).astype(np.float32)
            yield noisy / np.linalg.norm(noisy, axis=-1, keepdims=True)


@pytest.fixture
def stocked(tmp_path):
    """An uncoded gallery of 30 pictures, and a pipeline that gives views of them."""
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        pipeline = MadeUpPipeline()
        gallery.bind(pipeline.id, pipeline.describe_settings, DIM)
        root = register_root(gallery, str(tmp_path), "r")
        stored = {}
        for seed in range(30):
            name, seen = f"{seed}.png", described(seed)
            stored[name] = seen.descriptors.values
            write_picture(tmp_path / name, seed)
            gallery.add([NewImage(root.id, name, bytes([seed]) * 32, 9, 9, seen)])
        yield gallery, ViewingPipeline(stored)


def test_a_gallery_is_calibrated_once_and_search_then_says_how_sure_it_is(stocked):
    gallery, pipeline = stocked
    search = GallerySearch(gallery, ops.load("reference").code_scan)
    before = search.query(described(3).descriptors, 2)
    assert [hit.match for hit in before] == [None, None]
    told = []
    calibrate.keep_calibrated(gallery, ops.load("reference").code_scan, pipeline, lambda *what: told.append(what))
    assert calibration.stored(gallery, "frame", "descriptors").measured
    assert (pipeline.asked, told[-1][1:]) == (30, (30, 30))
    calibrate.keep_calibrated(gallery, ops.load("reference").code_scan, pipeline)
    assert pipeline.asked == 30
    again = GallerySearch(gallery, ops.load("reference").code_scan)
    right, wrong = again.query(described(3).descriptors, 2)
    assert right.image == "3.png"
    assert right.match > 0.9 > 0.5 > wrong.match


def test_a_curve_of_another_code_space_size_or_kind_of_score_is_not_used(stocked):
    gallery, pipeline = stocked
    calibrate.keep_calibrated(gallery, ops.load("reference").code_scan, pipeline)
    assert calibration.stored(gallery, "search", "descriptors") is not None
    assert calibration.stored(gallery, "search", "codes") is None
    gallery.remove([row.id for row in gallery.images()][:2])
    assert calibration.stored(gallery, "search", "descriptors") is not None
    for broken in ("", "no json", json.dumps({"version": 1}), json.dumps([1]), json.dumps({"version": 9})):
        with gallery.writing() as connection:
            identity.write_meta(connection, calibration=broken)
        assert calibration.stored(gallery, "search", "descriptors") is None


def test_only_labelled_images_are_looked_up_where_asked(stocked):
    gallery, _ = stocked
    search = GallerySearch(gallery, ops.load("reference").code_scan)
    ids = [row.id for row in gallery.images()]
    queries = described(3).descriptors.values
    everything = look_up(search, queries, k=2)
    assert ids[3] in everything.image_ids
    assert everything.scores.shape == (len(queries), len(everything.image_ids))
    with looking(search, queries) as looked:
        assert set(looked.matches(2, {ids[0], ids[5]}).image_ids) == {ids[0], ids[5]}
        assert not len(looked.matches(2, set()).image_ids)
        some = looked.scores_of([ids[7], 10**6, ids[3]])
        assert some.image_ids.tolist() == [ids[3], ids[7]]
        both = np.isin(everything.image_ids, some.image_ids)
        assert everything.scores[:, both] == pytest.approx(
            some.scores[:, np.isin(some.image_ids, everything.image_ids)]
        )
    assert not len(look_up(search, queries[:0], k=2).image_ids)
