"""Frames are left out where decoding falls behind a live source, and never because of its clock."""

from __future__ import annotations

import pytest

from edge_claid.capture.lateness import Lateness


def test_a_decoder_that_keeps_up_leaves_nothing_out() -> None:
    lateness = Lateness()
    for i in range(5000):
        assert not lateness.skip(i / 25, 1000.0 + i / 25 + (i % 7) * 0.02, i % 50 == 0)


def test_one_that_falls_behind_goes_on_with_a_key_frame() -> None:
    lateness = Lateness()
    now, skipped, late = 50.0, [], []
    for i in range(400):
        # Decoding takes twice as long as a frame lasts; leaving one out takes no time, but none comes before its time.
        now = max(now, 50.0 + i / 25)
        key = i % 20 == 0
        skipped.append(lateness.skip(i / 25, now, key))
        late.append(now - 50.0 - i / 25)
        now += 0.08 if not skipped[-1] or key else 0.0
    assert max(late) < 1.3
    assert 100 < sum(skipped) < 300
    # It ends with a key frame each time.
    ends = [i for i in range(1, 400) if skipped[i - 1] and not skipped[i]]
    assert len(ends) > 3
    assert all(i % 20 == 0 for i in ends)


@pytest.mark.parametrize("drift", [-2e-4, 2e-4])
def test_a_clock_that_runs_wrong_is_not_lateness(drift: float) -> None:
    lateness = Lateness()
    assert not any(lateness.skip(i / 5 * (1 + drift), 7.0 + i / 5, False) for i in range(5 * 86400))


@pytest.mark.parametrize("step", [-3600.0, -5.0, 5.0, 3600.0])
def test_a_clock_that_is_set_is_not_lateness_for_long(step: float) -> None:
    lateness = Lateness()
    assert not any(lateness.skip(i / 25, 7.0 + i / 25, i % 25 == 0) for i in range(500))
    later = [lateness.skip(i / 25 + step, 7.0 + i / 25, i % 25 == 0) for i in range(500, 3000)]
    assert sum(later) <= 4 * 25
    assert not any(later[4 * 25 :])


def test_packets_without_time_stamps() -> None:
    assert not any(Lateness().skip(None, float(i), False) for i in range(100))
