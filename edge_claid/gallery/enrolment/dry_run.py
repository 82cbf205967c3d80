"""Enrolment rehearsed: everything but the networks and the writing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge_claid.gallery.enrolment.budget import estimate, require_room, stored_dim
from edge_claid.gallery.enrolment.feed import Feed
from edge_claid.gallery.enrolment.options import EnrollOptions
from edge_claid.gallery.enrolment.outcome import Outcome, Summary
from edge_claid.gallery.enrolment.prune import gone
from edge_claid.gallery.enrolment.survey import FileSource, Finding, Survey
from edge_claid.gallery.roots import Root, all_roots, find_root
from edge_claid.gallery.store import Gallery


def rehearse(
    gallery: Gallery | None, sources: Sequence[FileSource], options: EnrollOptions, report: Callable[[Outcome], None]
) -> Summary:
    """Report what an enrolment would do, by headers and hashes; pixels are not decoded and nothing is written.

    Raises StorageError where the enrolment would be refused for want of room.
    """
    started = time.monotonic()
    roots = [find_root(gallery, source.root, source.name) if gallery else None for source in sources]
    paired = list(zip(sources, roots, strict=True))
    path = gallery.path if gallery is not None else options.path
    ahead = estimate(gallery, paired, stored_dim(gallery), options, path)
    options.planned(ahead)
    if path is not None:
        require_room(ahead, path, options.reserve)
    told = _Told(report)
    feed = Feed(paired, Survey(gallery, all_roots(gallery) if gallery else []), told.settle, threading.Event())
    told.describe(feed)
    if options.prune and gallery is not None:
        told.prune(gallery, roots, feed)
    told.summary.lost = {sources[number].uri: reason for number, reason in feed.lost.items()}
    told.summary.seconds = time.monotonic() - started
    return told.summary


@dataclass
class _Told:
    """What has been reported. moved: ids of images that were found under another name. copies: id to a second place."""

    report: Callable[[Outcome], None]
    summary: Summary = field(default_factory=lambda: Summary(rehearsed=True))
    moved: set[int] = field(default_factory=set)
    copies: dict[int, str] = field(default_factory=dict)

    def settle(self, finding: Finding) -> None:
        """A file that needs no network."""
        ids = [frame.id for frame in finding.frames or filter(None, [finding.row])]
        if finding.status == "moved":
            self.moved.update(ids)
        elif finding.copy:
            self.copies.update(dict.fromkeys(ids, finding.path))
        row = finding.row if finding.status in ("unchanged", "moved") else None
        regions = sum(frame.regions for frame in finding.frames) or (row.regions if row else 0)
        self._tell(Outcome(finding.path, finding.status, regions, finding.reason))

    def describe(self, feed: Feed) -> None:
        """The files that would be described."""
        seen: dict[bytes, str] = {}
        for finding in feed.checked():
            first = seen.setdefault(finding.digest, finding.path)
            if first != finding.path:
                self._tell(Outcome(finding.path, "unchanged", 0, f"same content as {first}"))
            else:
                self._tell(Outcome(finding.path, "added" if finding.row is None else "replaced", 0, finding.reason))

    def prune(self, gallery: Gallery, roots: Sequence[Root | None], feed: Feed) -> None:
        """The images whose files are gone, of every folder that could be read whole."""
        for number, root in enumerate(roots):
            if root is None or number in feed.lost_now():
                continue
            for row in gone(gallery, root, feed.listed.get(number, 0)):
                if row.id in self.copies:
                    self._tell(Outcome(self.copies[row.id], "moved", row.regions, f"was {row.path}"))
                elif row.id not in self.moved:
                    self._tell(
                        Outcome(f"{root.location}/{row.path}", "removed", row.regions, "no longer in its folder")
                    )

    def _tell(self, outcome: Outcome) -> None:
        self.summary.counts[outcome.status] += 1
        self.report(outcome)
