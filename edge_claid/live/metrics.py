"""Counts and times of a live look-up, in memory that does not grow: for ``/metrics`` and the end of a run."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

QUANTILES = (0.5, 0.95, 0.99)
_FINEST, _STEP, _BUCKETS = 1e-5, 1.02, 1000  # seconds of the first bucket, ratio of neighbours: 10 us to an hour, 2 %


class Durations:
    """Quantiles of durations over a whole run, each within 1 % of its value: counts in buckets of equal ratio."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count, self.total = 0, 0.0

    def add(self, seconds: float) -> None:
        """One duration; negative ones count as none at all long."""
        bucket = int(math.log(max(seconds, _FINEST) / _FINEST) / math.log(_STEP))
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1
        self.total += max(seconds, 0.0)

    def quantile(self, share: float) -> float:
        """Seconds that this share of durations does not exceed; NaN where there are none."""
        if self.count == 0:
            return math.nan
        rank, passed = max(1, math.ceil(share * self.count)), 0
        for bucket, count in enumerate(self._counts):
            passed += count
            if passed >= rank:
                return _FINEST * _STEP ** (bucket + 0.5)
        raise AssertionError("buckets do not add up to their count")


class LiveMetrics:
    """What a look-up measures of itself. Any thread may write and read.

    frames_in: frames the source gave, with those it dropped; dropped: frames nobody looked at; processed: answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._processed, self._captured, self._dropped, self._skipped = 0, 0, 0, 0
        self._latency, self._stages = Durations(), {}  # type: tuple[Durations, dict[str, Durations]]
        self._tracks: dict[str, int] = {}

    def captured(self, dropped: int) -> None:
        """A frame was taken from the source, which has dropped so many in all."""
        with self._lock:
            self._captured += 1
            self._dropped = dropped

    def skipped(self) -> None:
        """A frame that was taken could not be answered."""
        with self._lock:
            self._skipped += 1

    def stage(self, name: str, seconds: float) -> None:
        """One frame spent so long in a stage."""
        with self._lock:
            self._stages.setdefault(name, Durations()).add(seconds)

    def answered(self, latency: float, states: dict[str, int]) -> None:
        """A frame was answered `latency` seconds after its capture; states: tracks shown of each state."""
        with self._lock:
            self._processed += 1
            self._latency.add(latency)
            self._tracks = dict(states)

    def summary(self) -> dict[str, Any]:
        """All figures, fit for JSON; times in milliseconds, null where nothing was measured."""
        with self._lock:
            seconds = time.monotonic() - self._started
            stages = {name: _milliseconds(times) for name, times in self._stages.items()}
            latency = _milliseconds(self._latency)
            captured, processed = self._captured, self._processed
            dropped = self._dropped + self._skipped
            frames_in = captured + self._dropped
        return {
            "frames_in": frames_in,
            "dropped": dropped,
            "processed": processed,
            "seconds": round(seconds, 3),
            "frames_per_second": round(processed / seconds, 3) if seconds > 0 else None,
            "latency_ms": latency,
            "stages_ms": stages,
        }

    def prometheus(self) -> str:
        """The figures as Prometheus reads them (text exposition format 0.0.4)."""
        with self._lock:
            totals = {
                "frames_in": self._captured + self._dropped,
                "frames_dropped": self._dropped + self._skipped,
                "frames_processed": self._processed,
            }
            lines = []
            for name, value in totals.items():
                lines += [f"# TYPE edge_claid_{name}_total counter", f"edge_claid_{name}_total {value}"]
            lines.append("# TYPE edge_claid_tracks gauge")
            for state in ("tentative", "confirmed", "unknown"):
                lines.append(f'edge_claid_tracks{{state="{state}"}} {self._tracks.get(state, 0)}')
            lines.append("# TYPE edge_claid_latency_seconds summary")
            lines += summary_lines("edge_claid_latency_seconds", "", self._latency)
            lines.append("# TYPE edge_claid_stage_seconds summary")
            for stage, times in sorted(self._stages.items()):
                lines += summary_lines("edge_claid_stage_seconds", f'stage="{stage}"', times)
        return "\n".join(lines) + "\n"


def summary_text(summary: dict[str, Any]) -> str:
    """The figures of a run in two lines for people."""
    latency = summary["latency_ms"]
    rate, seconds = summary["frames_per_second"] or 0.0, summary["seconds"]
    counts = f"{summary['processed']} frames looked at in {seconds:.1f} s ({rate:.2f} a second), "
    counts += f"{summary['dropped']} of {summary['frames_in']} dropped"
    if latency["p50"] is None:
        return counts
    stages = ", ".join(f"{name} {times['mean']:.1f}" for name, times in summary["stages_ms"].items())
    times = f"capture to answer: p50 {latency['p50']:.0f}, p95 {latency['p95']:.0f}, p99 {latency['p99']:.0f} ms"
    return f"{counts}; {times}\nmean ms a frame: {stages}"


def _milliseconds(times: Durations) -> dict[str, float | None]:
    found = {f"p{round(share * 100)}": times.quantile(share) * 1000 for share in QUANTILES}
    found["mean"] = times.total / times.count * 1000 if times.count else math.nan
    return {name: None if math.isnan(value) else round(value, 3) for name, value in found.items()}


def summary_lines(name: str, labels: str, times: Durations) -> list[str]:
    """One summary as Prometheus reads it. labels: ``key="value"`` pairs, or nothing."""
    lines = []
    for share in QUANTILES:
        inner = ",".join(part for part in (labels, f'quantile="{share}"') if part)
        value = times.quantile(share)
        lines.append(f"{name}{{{inner}}} {'NaN' if math.isnan(value) else format(value, '.6g')}")
    around = f"{{{labels}}}" if labels else ""
    return [*lines, f"{name}_sum{around} {times.total:.6f}", f"{name}_count{around} {times.count}"]
