"""Messages between the capture process and the process that started it."""

from __future__ import annotations

import io

import numpy as np
import pytest

from edge_claid.capture.wire import Captured, End, Failure, Message, WireError, read_message, write_message


def written(*messages: Message) -> bytes:
    stream = io.BytesIO()
    for message in messages:
        write_message(stream, message)
    return stream.getvalue()


def test_round_trip() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    sent = (Captured(pixels[:, ::-1], 3, 1.5, 2.5), Failure("gone", "machine"), End())
    stream = io.BytesIO(written(*sent))
    frame = read_message(stream, 35)
    assert isinstance(frame, Captured)
    np.testing.assert_array_equal(frame.pixels, pixels[:, ::-1])
    assert (frame.number, frame.monotonic, frame.unix) == (3, 1.5, 2.5)
    assert read_message(stream, 35) == sent[1]
    assert read_message(stream, 35) == End()
    assert read_message(stream, 35) is None


def test_a_message_cut_anywhere_is_an_end() -> None:
    whole = written(Captured(np.zeros((4, 4, 3), np.uint8), 0, 0.0, 0.0))
    for length in range(len(whole)):
        assert read_message(io.BytesIO(whole[:length]), 16) is None
    reason = written(Failure("gone"))
    assert read_message(io.BytesIO(reason[:-1]), 16) is None


def test_what_is_no_message_is_refused() -> None:
    frame = written(Captured(np.zeros((4, 4, 3), np.uint8), 0, 0.0, 0.0))
    with pytest.raises(WireError, match="4x4"):
        read_message(io.BytesIO(frame), 15)
    with pytest.raises(WireError):
        read_message(io.BytesIO(b"x" * 200), 16)
    # A length that does not fit the size would put every later message out of step.
    with pytest.raises(WireError):
        read_message(io.BytesIO(frame[:40] + (47).to_bytes(8, "little") + frame[48:]), 16)


def test_a_long_reason_is_cut() -> None:
    failure = read_message(io.BytesIO(written(Failure("é" * 100_000))), 16)
    assert isinstance(failure, Failure)
    assert 100 < len(failure.reason) < 1000
