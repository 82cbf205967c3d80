"""What enrolment says of each file, and of them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from edge_claid.errors import SourceError

STATUSES = ("added", "replaced", "moved", "unchanged", "rejected", "skipped", "removed")


@dataclass(frozen=True)
class Outcome:
    """One file: what became of it, how many regions it has in the gallery, and why, where that is worth saying."""

    file: str
    status: str
    regions: int = 0
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, "status": self.status, "regions": self.regions, "reason": self.reason}


@dataclass
class Summary:
    """Counts by status, and the time it took; training_seconds of it went into training a code space.

    rehearsed: nothing was done, the counts are what would be. lost: source to why it was lost on the way; what was told
    before is stored. stopped: the run was asked to end. outgrown: what to do where the gallery has outgrown its code
    book, else None.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    training_seconds: float = 0.0
    rehearsed: bool = False
    lost: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    outgrown: str | None = None

    def require_sources(self) -> None:
        """Raises SourceError where a source was lost on the way."""
        for uri, reason in self.lost.items():
            done = sum(self.counts.values())
            raise SourceError(
                f"{uri}: the source was lost ({reason}) after {done} files; all that was reported is stored, "
                "nothing was pruned. Bring it back and run the same command again"
            )

    @property
    def images_per_second(self) -> float:
        """Pictures that went through the networks, by wall time without the training; 0 where none was to go."""
        described = 0 if self.rehearsed else self.counts["added"] + self.counts["replaced"]
        seconds = self.seconds - self.training_seconds
        return described / seconds if seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        counts = {status: self.counts[status] for status in STATUSES}
        rates = {"seconds": round(self.seconds, 3), "images_per_second": round(self.images_per_second, 3)}
        return {"summary": counts | rates}
