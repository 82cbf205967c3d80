"""States of a live source, with a capture process that says what the test tells it to."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from edge_claid.capture.wire import Captured, End, Failure, Message
from edge_claid.errors import MachineError, SourceLostError, UsageError
from edge_claid.frames import live_stream
from edge_claid.frames.address import Address
from edge_claid.frames.live_stream import LiveStream, Patience
from edge_claid.records import SourceEvent, TimedFrame

ADDRESS = Address("rtsp://***@cam/1", {"place": "rtsp://u:secret@cam/1"})
EAGER = Patience(open=1.0, first=1.0, stalled=0.2, retry=0.001, longest=0.002)


def frame(number: int, unix: float = 0.0) -> Captured:
    return Captured(np.zeros((2, 3, 3), np.uint8), number, time.monotonic(), unix)


class Script:
    """Capture processes that say, one run after the other, what is written for each."""

    def __init__(self, runs: Iterable[Iterable[Message]]):
        self.runs: Iterator[Iterable[Message]] = iter(runs)
        self.opened = self.closed = 0
        self.settings: list[dict[str, Any]] = []

    def __call__(self, settings: dict[str, Any]) -> Script.Run:
        self.opened += 1
        self.settings.append(settings)
        return Script.Run(self, iter(next(self.runs)))

    class Run:
        def __init__(self, script: Script, messages: Iterator[Message]):
            self.script, self.messages = script, messages

        def next(self, timeout: float) -> Message | None:
            # A real one is asked now, and needs a moment to answer.
            message = next(self.messages, None) if timeout > 0.002 else None
            if message is None:
                time.sleep(min(timeout, 0.05))
            return message

        def close(self) -> None:
            self.script.closed += 1


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def start(*runs: Iterable[Message], **options: Any) -> tuple[LiveStream, Script]:
        script = Script(runs)
        monkeypatch.setattr(live_stream, "CaptureProcess", script)
        return LiveStream(ADDRESS, patience=options.pop("patience", EAGER), **options), script

    return start


def answers(stream: LiveStream, count: int) -> list[str]:
    """What the next reads gave: "frame 3", "lost", ..."""
    given = [stream.read(5.0) for _ in range(count)]
    return [f"frame {a.number}" if isinstance(a, TimedFrame) else a.state if a else "nothing" for a in given]


def test_lost_and_found(play) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([frame(0), frame(2), Failure("cut")], [Failure("refused")], [frame(1), frame(2)])
    with stream:
        assert answers(stream, 3) == ["frame 0", "frame 2", "lost"]
        assert answers(stream, 4) == ["reconnecting", "reconnecting", "back", "frame 4"]
        assert answers(stream, 1) == ["frame 5"]
        # Frame 1 before the loss, frame 3 (the first after it) were taken and never given.
        assert stream.dropped == 2
        assert stream.live
    assert (script.opened, script.closed) == (3, 3)


def test_events_say_why_and_never_the_password(play) -> None:  # type: ignore[no-untyped-def]
    stream, _ = play([frame(0), Failure("cut")], [Failure("refused")], [frame(0)])
    with stream:
        stream.read(5.0)
        events = [stream.read(5.0) for _ in range(4)]
    assert all(isinstance(event, SourceEvent) for event in events)
    assert [event.reason for event in events] == ["cut", "attempt 1: cut", "attempt 2: refused", ""]
    assert "secret" not in repr(events) + stream.shown


def test_no_frame_for_too_long_is_a_loss(play) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([frame(0)], [frame(0)])
    with stream:
        assert answers(stream, 2) == ["frame 0", "lost"]
        assert script.closed == 1
        assert answers(stream, 3) == ["reconnecting", "back", "frame 1"]


def test_a_reader_that_comes_back_late_does_not_take_the_source_for_lost(play) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([frame(number) for number in range(3)])
    with stream:
        for number in range(3):
            assert answers(stream, 1) == [f"frame {number}"]
            time.sleep(1.5 * EAGER.stalled)
        assert script.opened == 1
        start = time.monotonic()
        assert answers(stream, 1) == ["lost"]
        assert time.monotonic() - start > 0.5 * EAGER.stalled  # it was waited for again


def test_no_first_frame_is_a_failure(play) -> None:  # type: ignore[no-untyped-def]
    stream, _ = play([], patience=Patience(first=0.1))
    with stream, pytest.raises(SourceLostError, match=r"rtsp://\*\*\*@cam/1: no frame for 0.1 s"):
        stream.read()


def test_given_up_after_so_many_attempts(play) -> None:  # type: ignore[no-untyped-def]
    refused = itertools.repeat([Failure("refused")])
    stream, script = play([frame(0), Failure("cut")], *itertools.islice(refused, 9), max_reconnects=3)
    with stream:
        assert answers(stream, 5) == ["frame 0", "lost", "reconnecting", "reconnecting", "reconnecting"]
        for _ in range(2):
            with pytest.raises(SourceLostError, match=r"refused \(given up after 3 attempts") as given_up:
                stream.read(5.0)
        assert given_up.value.exit_code == 7
    assert script.opened == 4


def test_attempts_are_counted_from_the_last_frame(play) -> None:  # type: ignore[no-untyped-def]
    runs = [[frame(0), Failure("cut")], [Failure("refused")]] * 20
    stream, script = play(*runs, [frame(0)], max_reconnects=2)
    with stream:
        for i in range(20):
            assert answers(stream, 4) == [f"frame {i}", "lost", "reconnecting", "reconnecting"]
            assert answers(stream, 1) == ["back"]
    assert script.opened == 41


def test_none_allowed(play) -> None:  # type: ignore[no-untyped-def]
    stream, _ = play([frame(0), Failure("cut")], max_reconnects=0)
    with stream:
        assert answers(stream, 2) == ["frame 0", "lost"]
        with pytest.raises(SourceLostError, match=r"cam/1: cut$"):
            stream.read(5.0)


def test_what_cannot_be_opened_at_the_start_is_given_up_at_once(play) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([Failure("refused")])
    with stream, pytest.raises(SourceLostError, match="refused"):
        stream.read(5.0)
    assert (script.opened, script.closed) == (1, 1)


def test_waiting_at_the_start(play) -> None:  # type: ignore[no-untyped-def]
    stream, _ = play([Failure("refused")], [Failure("refused")], [frame(0)], wait=True)
    with stream:
        assert answers(stream, 3) == ["reconnecting", "reconnecting", "frame 0"]


@pytest.mark.parametrize(("kind", "error"), [("machine", MachineError), ("usage", UsageError)])
def test_what_no_attempt_can_mend_is_not_tried_again(play, kind, error) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([Failure("no such element", kind)], wait=True)
    with stream, pytest.raises(error, match="no such element"):
        stream.read(5.0)
    assert script.opened == 1


def test_an_end_is_an_end(play) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([frame(0), End()])
    with stream:
        assert answers(stream, 4) == ["frame 0", "ended", "ended", "ended"]
    assert (script.opened, script.closed) == (1, 1)


def test_no_process_can_be_started(play, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([frame(0), Failure("cut")], [frame(0)])
    with stream:
        assert answers(stream, 2) == ["frame 0", "lost"]

        def refuse(_: object) -> None:
            raise OSError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(live_stream, "CaptureProcess", refuse)
        assert answers(stream, 3) == ["reconnecting"] * 3
        monkeypatch.setattr(live_stream, "CaptureProcess", script)
        assert "back" in answers(stream, 2)


def test_closing_ends_a_read_in_another_thread(play) -> None:  # type: ignore[no-untyped-def]
    stream, script = play([frame(0)], patience=Patience())
    given: list[Any] = []
    with stream:
        stream.read(5.0)
        reader = threading.Thread(target=lambda: given.append(stream.read()))
        reader.start()
        stream.close()
        reader.join(30.0)
        assert not reader.is_alive()
        assert given[0].state == "ended"
        assert answers(stream, 2) == ["ended", "ended"]
    assert script.closed == 1


def test_nothing_within_the_timeout(play) -> None:  # type: ignore[no-untyped-def]
    stream, _ = play([], patience=Patience())
    with stream:
        assert stream.read(0.0) is None
        assert stream.read(0.01) is None


def test_setting_the_clock_changes_nothing(play, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    day = 86400.0
    stream, _ = play([frame(0, 100.0), frame(1, 100.0 - day), frame(2, 100.0 + day)])
    clock = itertools.cycle([0.0, -day, day])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    with stream:
        frames = [stream.read(5.0) for _ in range(3)]
    assert [given.time for given in frames] == [100.0, 100.0 - day, 100.0 + day]
    assert [given.captured for given in frames] == sorted(given.captured for given in frames)


def test_waits_grow_and_are_scattered() -> None:
    patience = Patience()
    for attempt, middle in [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (1_000_000, 30.0)]:
        waits = [patience.before(attempt) for _ in range(200)]
        assert 0.5 * middle <= min(waits) < 0.7 * middle
        assert 1.3 * middle < max(waits) <= 1.5 * middle
