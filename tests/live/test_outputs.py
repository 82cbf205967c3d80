"""What a look-up puts out: JSON lines, video, text, metrics."""

from __future__ import annotations

import io
import json
import math

import av
import numpy as np
import pytest

from edge_claid.errors import MachineError, StorageError, UsageError
from edge_claid.live import window
from edge_claid.live.answer import FrameAnswer, LiveEvent, TrackAnswer
from edge_claid.live.drawn import COLOURS, caption, drawn
from edge_claid.live.json_lines import JsonLines
from edge_claid.live.metrics import Durations, LiveMetrics, summary_text
from edge_claid.live.text_lines import EventLog, TextLines
from edge_claid.live.video_file import VideoFileSink
from edge_claid.records import Frame

CUP = TrackAnswer(4, "cup", 0.71, 0.93, (10.0, 12.0, 50.0, 60.0), "shelf/cup.jpg", "confirmed")
NAMELESS = TrackAnswer(5, None, math.nan, math.nan, (60.0, 12.0, 90.0, 60.0), None, "unknown")


def answer(number=0, time=0.0, size=(128, 96), tracks=(CUP, NAMELESS)):
    pixels = np.full((size[1], size[0], 3), 200, np.uint8)
    return FrameAnswer(Frame(pixels), number, time, 41.25, tuple(tracks), {"vit": 20.0})


def test_json_lines_are_as_the_conventions_say():
    stream = io.StringIO()
    sink = JsonLines(stream)
    sink.frame(answer(7, 1.2345))
    sink.event(LiveEvent("source", "lost", 99.0, {"reason": "no frame for 5 s"}))
    frame, event = (json.loads(line) for line in stream.getvalue().splitlines())
    assert list(frame) == ["frame", "time", "latency_ms", "tracks"]
    assert (frame["frame"], frame["time"], frame["latency_ms"]) == (7, 1.234, 41.2)
    assert frame["tracks"][0] == {
        "id": 4, "label": "cup", "score": 0.71, "match": 0.93, "box": [10.0, 12.0, 50.0, 60.0],
        "gallery_image": "shelf/cup.jpg", "state": "confirmed",
    }  # fmt: skip
    assert frame["tracks"][1]["match"] is frame["tracks"][1]["score"] is frame["tracks"][1]["label"] is None
    assert event == {"event": "source", "state": "lost", "time": 99.0, "reason": "no frame for 5 s"}


def test_what_happens_is_logged_as_people_say_it(caplog):
    with caplog.at_level("INFO"):
        EventLog().event(LiveEvent("source", "lost", 99.0, {"reason": "no frame for 5 s"}))
        EventLog().event(LiveEvent("gallery", "updated", 99.0, {"images": 7}))
    assert caplog.messages == ["source lost: no frame for 5 s", "gallery updated: images 7"]


def test_json_is_flushed_line_by_line_and_names_of_any_kind_are_lines():
    class Flushed(io.StringIO):
        flushed = 0

        def flush(self):
            self.flushed += 1

    stream = Flushed()
    odd = TrackAnswer(1, "tasse\n\udcff☕", 0.5, 0.5, (0.0, 0.0, 9.0, 9.0), None, "tentative")
    JsonLines(stream).frame(answer(tracks=[odd]))
    assert stream.flushed == 1
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["tracks"][0]["label"] == odd.label


def test_tracks_are_drawn_in_the_colour_of_their_state():
    picture = drawn(answer())
    assert tuple(picture[40, 10]) == COLOURS["confirmed"]
    assert tuple(picture[40, 60]) == COLOURS["unknown"]
    assert (answer().frame.pixels == 200).all()
    assert [caption(CUP), caption(NAMELESS)] == ["cup 93%", "unknown"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_the_video_holds_every_frame_at_its_time(tmp_path, suffix):
    sink = VideoFileSink(tmp_path / f"out{suffix}")
    for number in range(10):
        sink.frame(answer(number, 100.0 + number * 0.04))
    sink.close()
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 10
    assert (frames[0].width, frames[0].height) == (128, 96)
    if suffix != ".avi":
        assert np.diff([frame.time for frame in frames]) == pytest.approx(np.full(9, 0.04), abs=0.002)
    green = frames[5].to_ndarray(format="rgb24")[30:50, 10].astype(int).mean(axis=0)
    assert green[1] > green[0] + 40


def test_frames_that_change_size_and_clocks_that_jump_do_not_break_the_video(tmp_path):
    sink = VideoFileSink(tmp_path / "out.mp4")
    for time, size in ((50.0, (129, 97)), (49.0, (64, 200)), (math.nan, (128, 96)), (1e9, (300, 20)), (1e9, (128, 96))):
        sink.frame(answer(0, time, size, [CUP]))
    sink.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(128, 96)] * 5
    assert 0 < frames[-1].time < 60


def test_a_video_that_cannot_be_written_says_so_before_the_first_frame(tmp_path):
    with pytest.raises(UsageError, match=r"out\.gif"):
        VideoFileSink(tmp_path / "out.gif")
    with pytest.raises(StorageError, match="no folder"):
        VideoFileSink(tmp_path / "missing" / "out.mp4")
    VideoFileSink(tmp_path / "never.mp4").close()
    assert not (tmp_path / "never.mp4").exists()


def test_a_window_is_refused_in_words_where_there_is_none(monkeypatch):
    monkeypatch.setattr(window, "_gui_support", lambda: "")
    with pytest.raises(MachineError, match=r"edge-claid\[display\]"):
        window.Window(lambda: None)
    monkeypatch.setattr(window, "_gui_support", lambda: "gui")
    monkeypatch.setattr(window.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MachineError, match="DISPLAY"):
        window.Window(lambda: None)


def test_text_tells_changes_only(capsys):
    sink = TextLines(str)
    for number in range(3):
        sink.frame(answer(number, number * 0.5))
    sink.frame(answer(3, 1.5, tracks=[NAMELESS]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "cup 93% [10,12,50,60]" in lines[0]
    assert "nothing known" in lines[1]


def test_quantiles_are_within_two_percent_over_any_length():
    rng, times = np.random.default_rng(0), Durations()
    values = rng.lognormal(-3, 1, 5000)
    for value in values:
        times.add(value)
    for share in (0.5, 0.95, 0.99):
        assert times.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=0.02)
    times.add(-1.0)
    times.add(1e9)
    assert times.count == 5002
    assert math.isnan(Durations().quantile(0.5))


def test_metrics_count_frames_and_speak_prometheus():
    metrics = LiveMetrics()
    for number in range(4):
        metrics.captured(dropped=number)
        metrics.stage("vit", 0.02)
    for _ in range(3):
        metrics.answered(0.1, {"confirmed": 2})
    metrics.skipped()
    summary = metrics.summary()
    assert [summary[name] for name in ("frames_in", "dropped", "processed")] == [7, 4, 3]
    assert summary["latency_ms"]["p99"] == pytest.approx(100, rel=0.02)
    json.dumps(summary, allow_nan=False)
    lines = metrics.prometheus().splitlines()
    assert "edge_claid_frames_in_total 7" in lines
    assert 'edge_claid_tracks{state="confirmed"} 2' in lines
    assert "edge_claid_latency_seconds_count 3" in lines
    assert any(line.startswith('edge_claid_stage_seconds{stage="vit",quantile="0.95"} 0.0') for line in lines)
    told = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(told) == len(set(told))
    assert "3 frames looked at" in summary_text(summary)
    assert "0 frames looked at" in summary_text(LiveMetrics().summary())
