"""What the server counts of itself, for ``/metrics``."""

from __future__ import annotations

import threading
from collections import Counter

from edge_claid.live.metrics import Durations, LiveMetrics, summary_lines


class WebMetrics:
    """Counts of answers and times of searches and enrolments, in memory that does not grow. Any thread may write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[int] = Counter()
        self._works = {"search": Durations(), "enroll": Durations()}
        self.watchers = 0

    def answered(self, status: int) -> None:
        with self._lock:
            self._answers[status] += 1

    def worked(self, what: str, seconds: float) -> None:
        """A search or an enrolment took so long."""
        with self._lock:
            self._works[what].add(seconds)

    def prometheus(self, images: int, live: LiveMetrics | None) -> str:
        """Everything as Prometheus reads it, with the look-up's own figures where there is one."""
        with self._lock:
            lines = ["# TYPE edge_claid_http_answers_total counter"]
            lines += [f'edge_claid_http_answers_total{{status="{s}"}} {n}' for s, n in sorted(self._answers.items())]
            lines.append("# TYPE edge_claid_work_seconds summary")
            for what, times in self._works.items():
                lines += summary_lines("edge_claid_work_seconds", f'work="{what}"', times)
        lines += ["# TYPE edge_claid_watchers gauge", f"edge_claid_watchers {self.watchers}"]
        lines += ["# TYPE edge_claid_gallery_images gauge", f"edge_claid_gallery_images {images}"]
        return "\n".join(lines) + "\n" + (live.prometheus() if live is not None else "")
