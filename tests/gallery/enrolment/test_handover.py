"""The queue that an enrolment commits from, interrupted at every step of taking an item."""

from __future__ import annotations

import queue
import sys
import threading

import pytest

from edge_claid.gallery.enrolment.handover import Handover


def interrupted(handover: Handover[int], step: int) -> bool:
    """Take an item; a KeyboardInterrupt comes at the ``step``-th call or return within. True where it came."""
    left = step

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal left
        left -= argument is not sys.setprofile
        if left == 0:
            left = -1
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        handover.get(1.0)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_an_interrupt_leaves_no_lock_behind() -> None:
    came = []
    for step in range(1, 15):
        handover: Handover[int] = Handover(8)
        handover.put(1)
        handover.put(2)
        came.append(interrupted(handover, step))
        putting = threading.Thread(target=handover.put, args=(3,), daemon=True)
        putting.start()
        putting.join(10)
        assert not putting.is_alive(), f"locked by an interrupt at step {step}"
        taken = []
        while not handover.empty():
            taken.append(handover.get(1.0))
        assert taken[-2:] == [2, 3]
    assert came[0]
    assert not came[-1]


def test_no_more_than_so_many_wait() -> None:
    handover: Handover[int] = Handover(2)
    putting = threading.Thread(target=lambda: [handover.put(number) for number in range(5)], daemon=True)
    putting.start()
    putting.join(0.2)
    assert putting.is_alive()
    assert [handover.get(10.0) for _ in range(5)] == [0, 1, 2, 3, 4]
    putting.join(10)
    assert not putting.is_alive()
    with pytest.raises(queue.Empty):
        handover.get(0.0)
