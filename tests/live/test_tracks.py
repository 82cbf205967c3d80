"""Tracks on made-up sequences whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_stream import SIZE, sighting
from scipy.optimize import linear_sum_assignment

from edge_claid.config import LiveSettings
from edge_claid.live.association import assign, box_overlaps
from edge_claid.live.motion import SmoothBox
from edge_claid.live.tracks import Tracker
from edge_claid.live.votes import Votes

SETTINGS = LiveSettings()
BOX = (100.0, 80.0, 160.0, 140.0)


def moved(box, dx, dy=0.0):
    return (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)


def run(frames, settings=SETTINGS, step=0.1):
    tracker = Tracker(settings)
    return [tracker.update(frame, number * step, SIZE) for number, frame in enumerate(frames)]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_assignment_is_the_best_one(rows, columns, seed):
    benefit = np.random.default_rng(seed).uniform(-0.5, 1, (rows, columns))
    pairs = assign(benefit)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(benefit[pair] > 0 for pair in pairs)
    allowed = np.maximum(benefit, 0)
    best = allowed[linear_sum_assignment(-allowed)].sum() if benefit.size else 0.0
    assert sum(benefit[pair] for pair in pairs) == pytest.approx(best)


def test_overlaps_by_hand():
    found = box_overlaps(np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]]), np.array([[5, 0, 15, 10.0]]))
    assert found[:, 0] == pytest.approx([50 / 150, 0])


def test_confirmed_at_the_third_look_and_not_before():
    answers = run([[sighting(BOX)]] * 4)
    assert [frame[0].state for frame in answers] == ["tentative", "tentative", "confirmed", "confirmed"]
    assert {frame[0].id for frame in answers} == {1}
    assert answers[3][0].label == "cup"
    assert answers[3][0].match == pytest.approx(0.8)


def test_two_looks_of_three_are_enough_and_one_is_not():
    named, nameless = sighting(BOX), sighting(BOX, None)
    assert run([[named], [nameless], [named]])[-1][0].state == "confirmed"
    last = run([[named], [nameless], [nameless]])[-1][0]
    assert (last.state, last.label) == ("unknown", None)


def test_an_item_seen_now_and_then_is_unknown():
    names = ["cup", None, None, "bottle", None, None, "cup", None, None]
    answers = run([[sighting(BOX, name)] for name in names])
    assert [frame[0].state for frame in answers[2:]] == ["unknown"] * 7


def test_the_label_does_not_flicker():
    names = ["cup"] * 6 + ["mug", "cup", "cup"] * 4
    labels = [frame[0].label for frame in run([[sighting(BOX, name)] for name in names])]
    assert set(labels[2:]) == {"cup"}


def test_a_thing_that_becomes_another_is_renamed_once():
    labels = [frame[0].label for frame in run([[sighting(BOX, "cup")]] * 8 + [[sighting(BOX, "mug")]] * 8)]
    changes = [label for label, before in zip(labels[1:], labels[:-1], strict=True) if label != before]
    assert [label for label in changes if label] == ["mug"]
    assert labels[-1] == "mug"


def test_the_box_is_smoothed():
    rng = np.random.default_rng(0)
    noisy = [moved(BOX, *rng.normal(0, 6, 2)) for _ in range(60)]
    answers = run([[sighting(box)] for box in noisy])
    shown = np.array([frame[0].box for frame in answers[10:]])
    assert np.abs(np.diff(shown[:, 0])).mean() < 0.8 * np.abs(np.diff(np.array(noisy)[10:, 0])).mean()
    widths = shown[:, 2] - shown[:, 0]
    assert widths == pytest.approx(60, abs=1)


def test_a_moving_thing_keeps_its_track_and_the_box_does_not_lag():
    answers = run([[sighting(moved(BOX, 12 * number))] for number in range(12)])
    assert {track.id for frame in answers for track in frame} == {1}
    expected = np.array([moved(BOX, 12 * 11)])
    assert box_overlaps(np.array([answers[-1][0].box]), expected)[0, 0] > 0.85


def test_a_fast_thing_is_known_again_by_its_name():
    answers = run([[sighting(moved(BOX, 65 * number))] for number in range(3)])
    assert [frame[0].id for frame in answers] == [1, 1, 1]


def test_two_things_of_one_name_are_two_tracks():
    answers = run([[sighting((10, 10, 50, 90)), sighting((200, 10, 240, 90))]] * 4)
    assert {track.id for track in answers[-1]} == {1, 2}
    assert {track.state for track in answers[-1]} == {"confirmed"}


def test_a_confirmed_thing_outlives_a_missed_look_and_leaves_after_that():
    answers = run([[sighting(BOX)]] * 6 + [[]] * 4)
    assert [len(frame) for frame in answers[6:]] == [1, 0, 0, 0]


def test_a_named_thing_is_not_followed_to_what_stands_behind_it():
    behind = sighting(moved(BOX, 20), None, direction=1)
    answers = run([[sighting(BOX)]] * 5 + [[behind]] * 2 + [[sighting(BOX)]])
    assert [track.id for track in answers[-1]] == [1]
    assert box_overlaps(np.array([answers[-1][0].box]), np.array([BOX]))[0, 0] > 0.95
    cups = [track for frame in answers[5:7] for track in frame if track.label == "cup"]
    assert [track.box for track in cups] == [pytest.approx(BOX)]  # missed once it stays where it was, then it is gone


def test_what_stands_behind_a_named_thing_keeps_an_id_of_its_own():
    answers = run([[sighting(BOX)]] * 8 + [[sighting(BOX, None)]] * 12)
    later = [[(track.id, track.state) for track in frame] for frame in answers[9:]]
    assert later == [[(2, "tentative")]] + [[(2, "unknown")]] * 10


def test_a_missed_track_is_not_shown_over_another_of_its_name():
    large = (90.0, 70.0, 215.0, 190.0)
    answers = run([[sighting(BOX)]] * 5 + [[sighting(large, direction=1)]] * 3)
    assert all(len(frame) == 1 for frame in answers)


def test_back_soon_is_the_same_track_and_back_late_another():
    seen, away = [[sighting(BOX)]] * 8, [[]]
    soon = run(seen + away * 4 + seen)
    assert soon[-1][0].id == 1
    late = run(seen + away * 40 + seen)
    assert late[-1][0].id == 2


def test_a_single_sighting_is_forgotten():
    answers = run([[sighting(BOX)], [], [], [], [sighting(BOX)]])
    assert answers[-1][0].id == 2


def test_another_frame_size_starts_anew_without_reusing_ids():
    tracker = Tracker(SETTINGS)
    for number in range(4):
        tracker.update([sighting(BOX)], number * 0.1, SIZE)
    (track,) = tracker.update([sighting(BOX)], 0.5, (640, 480))
    assert (track.id, track.state) == (2, "tentative")


@given(st.lists(st.floats(-1e9, 1e9), min_size=3, max_size=20))
def test_clock_jumps_neither_break_nor_unname(moments):
    tracker = Tracker(LiveSettings(forget_seconds=1e12))
    for moment in moments:
        (track,) = tracker.update([sighting(BOX)], moment, SIZE)
    assert (track.id, track.state) == (1, "confirmed")
    assert np.isfinite(track.box).all()


boxes = st.tuples(st.integers(0, 250), st.integers(0, 180), st.integers(1, 70), st.integers(1, 60))


@given(st.lists(st.lists(boxes, max_size=6), max_size=12))
def test_boxes_stay_inside_the_frame_and_ids_are_unique(frames):
    for answer in run([[sighting((x, y, x + w, y + h)) for x, y, w, h in frame] for frame in frames]):
        assert len({track.id for track in answer}) == len(answer)
        for track in answer:
            assert 0 <= track.box[0] < track.box[2] <= SIZE[0]
            assert 0 <= track.box[1] < track.box[3] <= SIZE[1]


def test_votes_need_their_share_of_the_window():
    votes = Votes(looks=3, agreement=0.6, window=5)
    for name in ("cup", "cup", "cup", None, None):
        votes.add(sighting(BOX, name))
    assert votes.item == "cup"
    votes.add(None)
    assert votes.item is None
    assert votes.leading == "cup"


def test_a_steady_speed_is_carried_on():
    motion = SmoothBox(BOX, 0.0)
    for number in range(1, 30):
        motion.correct(moved(BOX, 5.0 * number), number * 0.1)
    assert motion.predicted(3.1)[0] == pytest.approx(BOX[0] + 5.0 * 31, abs=1.0)
    motion.stop()
    assert motion.predicted(3.4)[0] == pytest.approx(motion.predicted(2.9)[0])
