"""The loop with made-up stages: bounded, in order, newest first for live sources, and always ended in good order."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_stream import EndlessCamera, Kept, MadeUpLooker, QuietGallery, ScriptedSource, StillNamer, sighting

from edge_claid.config import LiveSettings
from edge_claid.errors import BadImageError, SourceLostError, StorageError
from edge_claid.live.answer import LiveEvent
from edge_claid.live.lookup import Lookup
from edge_claid.records import SourceEvent

SETTINGS = LiveSettings(gallery_seconds=0.01)


def finished(source, looker=None, sinks=(), gallery=None, namer=None, workers=2):
    gallery, namer = gallery or QuietGallery(), namer or StillNamer()
    lookup = Lookup(source, looker or MadeUpLooker(), gallery, namer, SETTINGS, sinks, workers=workers)
    lookup.start()
    assert lookup.wait(20)
    lookup.stop()
    return lookup


def test_a_file_gives_every_frame_in_order_however_long_each_look_takes():
    uneven = MadeUpLooker(lambda frame: time.sleep(0.02 if int(frame.name) % 3 == 0 else 0))
    kept = Kept()
    lookup = finished(ScriptedSource([n / 25 for n in range(30)]), uneven, [kept])
    assert [answer.number for answer in kept.answers] == list(range(30))
    assert kept.answers[-1].tracks[0].state == "confirmed"
    assert (kept.events[-1].event, kept.closed) == ("summary", 1)
    summary = lookup.metrics.summary()
    assert (summary["frames_in"], summary["processed"], summary["dropped"]) == (30, 30, 0)
    assert {"vit", "scan", "votes", "output", "capture"} <= set(summary["stages_ms"])


def test_a_slow_stage_never_means_a_growing_queue():
    source, gate = ScriptedSource([n / 25 for n in range(100)]), threading.Event()
    looker = MadeUpLooker(lambda frame: gate.wait(10))
    lookup = Lookup(source, looker, QuietGallery(), StillNamer(), SETTINGS, workers=2)
    lookup.start()
    deadline = time.monotonic() + 5
    while source.given < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.1)
    assert source.given == 3  # two at work, one decoded
    gate.set()
    assert lookup.wait(20)
    lookup.stop()
    assert (source.given, looker.most_busy) == (100, 2)


def test_a_slow_lossless_sink_holds_the_file_back():
    gate = threading.Event()
    source, slow = ScriptedSource([n / 25 for n in range(60)]), Kept(work=lambda: gate.wait(10) and None)
    lookup = Lookup(source, MadeUpLooker(), QuietGallery(), StillNamer(), SETTINGS, [slow], workers=1)
    lookup.start()
    time.sleep(0.3)
    assert source.given <= 8
    gate.set()
    assert lookup.wait(20)
    lookup.stop()
    assert len(slow.answers) == 60


def test_a_slow_viewer_misses_frames_and_holds_nobody_back():
    gate, kept = threading.Event(), Kept()
    viewer = Kept(lossless=False, work=lambda: gate.wait(10) and None)
    source = ScriptedSource([n / 25 for n in range(50)] + [SourceEvent("ended", 1.0)])
    lookup = Lookup(source, MadeUpLooker(), QuietGallery(), StillNamer(), SETTINGS, [viewer, kept], workers=1)
    lookup.start()
    assert lookup.wait(20)
    gate.set()
    lookup.stop()
    assert len(kept.answers) == 50
    assert 1 <= len(viewer.answers) < 10
    assert [event.event for event in viewer.events] == ["source", "summary"]


def test_a_live_source_is_read_only_when_there_is_room():
    camera, kept = EndlessCamera(), Kept()
    slow = MadeUpLooker(lambda frame: time.sleep(0.05))
    lookup = Lookup(camera, slow, QuietGallery(), StillNamer(), SETTINGS, [kept], workers=1)
    lookup.start()
    time.sleep(0.6)
    lookup.stop()
    gaps = [b.number - a.number for a, b in zip(kept.answers, kept.answers[1:], strict=False)]
    assert min(gaps[1:]) > 1
    summary = lookup.metrics.summary()
    assert summary["dropped"] == camera.dropped > 0
    assert summary["frames_in"] == summary["processed"] + summary["dropped"]


def test_events_keep_their_place_among_frames():
    lost, back = SourceEvent("lost", 5.0, "no frame for 5 s"), SourceEvent("back", 9.0)
    kept = Kept()
    finished(ScriptedSource([0.0, lost, back, 1.0, SourceEvent("ended", 10.0)]), sinks=[kept])
    states = [event.state for event in kept.events if event.event == "source"]
    assert states == ["lost", "back", "ended"]
    assert kept.events[0].as_json() == {"event": "source", "state": "lost", "time": 5.0, "reason": "no frame for 5 s"}


def test_a_source_given_up_is_raised_after_what_was_seen_is_answered():
    kept = Kept()
    lookup = Lookup(
        ScriptedSource([0.0, 0.1, SourceLostError("rtsp://***@host: given up")]),
        MadeUpLooker(),
        QuietGallery(),
        StillNamer(),
        SETTINGS,
        [kept],
    )
    lookup.start()
    assert lookup.wait(20)
    with pytest.raises(SourceLostError, match="given up"):
        lookup.stop()
    assert (len(kept.answers), kept.closed) == (2, 1)
    ended = kept.events[0].as_json()
    assert (ended["event"], ended["state"], ended["reason"]) == ("source", "ended", "rtsp://***@host: given up")
    assert kept.events[-1].event == "summary"


def test_a_bad_frame_is_left_out_and_the_run_goes_on():
    def work(frame):
        if frame.name == "1":
            raise BadImageError("frame 1: cannot be used")

    kept = Kept()
    lookup = finished(ScriptedSource([0.0, 0.1, 0.2]), MadeUpLooker(work), [kept])
    assert [answer.number for answer in kept.answers] == [0, 2]
    assert lookup.metrics.summary()["dropped"] == 1


def test_a_clip_of_one_frame():
    kept = Kept()
    finished(ScriptedSource([0.0]), sinks=[kept])
    assert [track.state for track in kept.answers[0].tracks] == ["tentative"]


@pytest.mark.parametrize("failing", ["look", "name"])
def test_an_unexpected_error_ends_the_run_and_is_raised(failing):
    def boom(*_):
        raise RuntimeError("boom")

    looker, namer = MadeUpLooker(), StillNamer()
    setattr(*((looker, "look") if failing == "look" else (namer, "sightings")), boom)
    lookup = Lookup(ScriptedSource([0.0] * 50), looker, QuietGallery(), namer, SETTINGS)
    lookup.start()
    assert lookup.wait(20)
    with pytest.raises(RuntimeError, match="boom"):
        lookup.stop()


def test_an_output_that_fails_ends_the_run_and_a_viewer_that_fails_does_not():
    def full():
        raise StorageError("no space left")

    source = ScriptedSource([n / 25 for n in range(200)])
    lookup = Lookup(source, MadeUpLooker(), QuietGallery(), StillNamer(), SETTINGS, [Kept(work=full)])
    lookup.start()
    assert lookup.wait(20)
    with pytest.raises(StorageError, match="no space"):
        lookup.stop()
    assert source.given < 200
    kept, broken = Kept(), Kept(lossless=False, work=full)
    finished(ScriptedSource([n / 25 for n in range(20)]), sinks=[broken, kept])
    assert len(kept.answers) == 20
    assert broken.closed == 1


def test_an_output_that_takes_nothing_more_holds_no_interruption_up():
    gate, slow = threading.Event(), Kept(work=lambda: time.sleep(0.05))
    stuck = Kept(work=lambda: gate.wait(60) and None)
    source = ScriptedSource([n / 25 for n in range(100)])
    lookup = Lookup(source, MadeUpLooker(), QuietGallery(), StillNamer(), SETTINGS, [slow, stuck])
    lookup.start()
    time.sleep(0.3)
    stopping = threading.Thread(target=lookup.stop, args=(1.0,))
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()
    # The other one has all that was answered, and its summary.
    assert (slow.events[-1].event, slow.closed, stuck.closed) == ("summary", 1, 0)
    gate.set()


def test_what_is_sought_can_change_while_it_runs():
    camera, kept = EndlessCamera(), Kept()
    lookup = Lookup(camera, MadeUpLooker(), QuietGallery(), StillNamer("cup"), SETTINGS, [kept])
    lookup.start()
    late = Kept(lossless=False)
    lookup.subscribe(late)
    time.sleep(0.2)
    lookup.name_with(StillNamer("mug"))
    lookup.unsubscribe(late)
    count = len(late.answers)
    time.sleep(0.2)
    lookup.stop()
    labels = [answer.tracks[0].label for answer in kept.answers]
    assert labels == sorted(labels)  # cup, then mug
    assert labels[0] == "cup"
    assert labels[-1] == "mug"
    assert (len(late.answers), late.closed) == (count, 1)


def test_gallery_events_reach_the_sinks_while_it_runs():
    news = LiveEvent("gallery", "updated", 1.0, {"images": 7})
    kept = Kept()
    lookup = Lookup(EndlessCamera(), MadeUpLooker(), QuietGallery([news]), StillNamer(), SETTINGS, [kept])
    lookup.start()
    deadline = time.monotonic() + 5
    while not kept.events and time.monotonic() < deadline:
        time.sleep(0.01)
    lookup.stop()
    assert kept.events[0].as_json() == {"event": "gallery", "state": "updated", "time": 1.0, "images": 7}


def test_a_gallery_whose_descriptors_change_their_space_while_it_runs_keeps_its_tracks():
    gallery, kept = QuietGallery(), Kept()

    class Namer:
        looks = 0

        def sightings(self, look, holdings, expected, frames_per_hour):
            self.looks += 1
            if self.looks == 5:
                gallery.holdings = SimpleNamespace(projection="of more pictures")
            values = np.eye(8 if holdings.projection is None else 3, dtype=np.float32)[0]
            return [replace(sighting((10, 10, 60, 60)), descriptor=values)]

    finished(ScriptedSource([n / 25 for n in range(10)]), sinks=[kept], gallery=gallery, namer=Namer(), workers=1)
    assert [[(track.id, track.state) for track in answer.tracks] for answer in kept.answers][2:] == [
        [(1, "confirmed")]
    ] * 8


def test_no_thread_is_left():
    before = set(threading.enumerate())
    for _ in range(5):
        finished(ScriptedSource([0.0, 0.1]), sinks=[Kept(), Kept(lossless=False)])
    assert set(threading.enumerate()) <= before
