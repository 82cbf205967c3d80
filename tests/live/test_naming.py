"""From scores of regions to sightings: one box a thing, however many nested regions show it."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from made_up_stream import SIZE, regions_of, unit

from edge_claid.config import LiveSettings
from edge_claid.gallery.lookup.calibration import Calibration
from edge_claid.live.find import Finder, Target, against_frame
from edge_claid.live.holdings import UNMEASURED
from edge_claid.live.look import Look
from edge_claid.live.placing import Named, sightings_from_scores, unknown_sightings
from edge_claid.live.threshold import Threshold

SETTINGS = LiveSettings()
ROOT, CUP, HANDLE, MUG = (0, 0, *SIZE), (100, 80, 160, 140), (102, 90, 158, 138), (220, 80, 280, 140)


def named(scores, items=("cup",), least=0.5, expected=0.4, again=0.6):
    scores = np.array(scores, np.float64).reshape(-1, len(items))
    values = np.tile(unit(0), (len(scores), 1))
    levels = [np.full(len(items), level) for level in (least, expected, again)]
    return Named(items, scores, scores, scores, scores, *levels, lambda r, c: items[c], lambda r, c: None, values)


def found(boxes, scores, expected=(), **kwargs):
    return sightings_from_scores(regions_of(boxes), named(scores, **kwargs), expected, SETTINGS)


def test_nested_regions_that_name_one_item_are_one_sighting():
    (one,) = found([ROOT, CUP, HANDLE], [0.55, 0.8, 0.79])
    assert (one.item, one.score) == ("cup", 0.8)
    assert one.box in (CUP, HANDLE)


def test_hundreds_of_regions_give_one_sighting_a_thing():
    rng = np.random.default_rng(0)
    around = [tuple(np.array(CUP) + rng.integers(-8, 8, 4)) for _ in range(300)]
    assert len(found([ROOT, *around], [0.6, *rng.uniform(0.6, 0.9, 300)])) == 1


def test_equal_things_apart_are_several_but_faint_echoes_are_none():
    assert len(found([ROOT, CUP, MUG], [0.1, 0.8, 0.75])) == 2
    assert len(found([ROOT, CUP, MUG], [0.1, 0.8, 0.55])) == 1


def test_one_place_has_one_name():
    (one,) = found([ROOT, CUP], [[0.1, 0.1], [0.7, 0.8]], items=("cup", "mug"))
    assert one.item == "mug"


def test_below_the_threshold_is_nothing_unless_it_is_expected_there():
    assert found([ROOT, CUP], [0.1, 0.45]) == []
    assert found([ROOT, CUP], [0.1, 0.45], expected=[("cup", MUG)]) == []
    (one,) = found([ROOT, CUP], [0.1, 0.45], expected=[("cup", CUP), ("gone", CUP)])
    assert one.score == 0.45


def test_what_nothing_names_is_told_apart_once():
    regions = regions_of([ROOT, CUP, HANDLE, MUG, (0, 0, 3, 3), (0, 0, 300, 230)])
    values = np.tile(unit(1), (6, 1))
    unknown = unknown_sightings(regions, values, found([ROOT, CUP], [0.1, 0.8]), most=6)
    assert [one.box for one in unknown] == [MUG]
    assert unknown[0].item is None
    assert unknown_sightings(regions, values, [], most=0) == []


class Unsearched:
    """A search of an empty gallery."""

    @staticmethod
    @contextlib.contextmanager
    def scoring():
        yield None, None


class Plain:
    """Holdings of an empty gallery: nothing is projected, nothing is in a cohort."""

    search = Unsearched()

    def __init__(self, calibration):
        self.calibration = calibration

    @staticmethod
    def project(descriptors):
        return descriptors


def test_finding_places_the_target_by_what_its_surroundings_do_not_share():
    surroundings, thing = 3 * unit(0), unit(1)
    rows = [surroundings, surroundings + 0.1 * unit(2), surroundings + thing, surroundings + 0.1 * unit(3)]
    values = np.stack([row / np.linalg.norm(row) for row in rows])
    finder = Finder([Target("thing", "thing.jpg", values[2])], SETTINGS, Threshold.of(SETTINGS))
    look = Look(regions_of([ROOT, CUP, MUG, (0, 0, 60, 60)]), values)
    curve = Calibration(1.0, 7.0, 4.0, 0.5, true=9, false=9)
    (one,) = finder.sightings(look, Plain(curve), [], 18_000)
    assert (one.box, one.label, one.gallery_image) == (MUG, "thing", "thing.jpg")
    assert one.match > 0.9
    plain, centred = values @ values[2], against_frame(values, values[2:3])[:, 0]
    assert centred[2] - np.delete(centred, 2).max() > plain[2] - np.delete(plain, 2).max() > 0
    unsure = finder.sightings(look, Plain(UNMEASURED), [], 18_000)
    assert np.isnan(unsure[0].match)


def test_a_rate_of_false_alarms_sets_the_score():
    curve = Calibration(20, 0.5, 0.1, 0.05, true=9, false=9)
    strict, loose = (Threshold.of(SETTINGS, rate).least(curve, 18_000) for rate in (1.0, 1000.0))
    assert strict > loose
    assert Threshold.of(SETTINGS).least(curve, 18_000) == pytest.approx(curve.score_at(SETTINGS.match))
    usual = Threshold.of(SETTINGS)
    assert usual.least_expected(curve, 18_000) < usual.least(curve, 18_000)
