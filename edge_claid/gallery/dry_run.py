"""Enrolment rehearsed: everything but the networks and the writing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from edge_claid.gallery.budget import estimate, require_room, stored_dim
from edge_claid.gallery.feed import Feed
from edge_claid.gallery.options import EnrollOptions
from edge_claid.gallery.outcome import Outcome, Summary
from edge_claid.gallery.prune import gone
from edge_claid.gallery.roots import all_roots, find_root
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.survey import FileSource, Finding, Survey


def rehearse(
    gallery: Gallery | None, sources: Sequence[FileSource], options: EnrollOptions, report: Callable[[Outcome], None]
) -> Summary:
    """Report what an enrolment would do, by headers and hashes; pixels are not decoded and nothing is written.

    Raises StorageError where the enrolment would be refused for want of room.
    """
    summary = Summary(rehearsed=True)
    started = time.monotonic()

    def tell(outcome: Outcome) -> None:
        summary.counts[outcome.status] += 1
        report(outcome)

    moved: set[int] = set()
    copies: dict[int, str] = {}

    def settle(finding: Finding) -> None:
        ids = [frame.id for frame in finding.frames or filter(None, [finding.row])]
        if finding.status == "moved":
            moved.update(ids)
        elif finding.copy:
            copies.update(dict.fromkeys(ids, finding.path))
        row = finding.row if finding.status in ("unchanged", "moved") else None
        regions = sum(frame.regions for frame in finding.frames) or (row.regions if row else 0)
        tell(Outcome(finding.path, finding.status, regions, finding.reason))

    roots = [find_root(gallery, source.root, source.name) if gallery else None for source in sources]
    stored = all_roots(gallery) if gallery else []
    paired = list(zip(sources, roots, strict=True))
    path = gallery.path if gallery is not None else options.path
    ahead = estimate(gallery, paired, stored_dim(gallery), options, path)
    options.planned(ahead)
    if path is not None:
        require_room(ahead, path, options.reserve)
    feed = Feed(paired, Survey(gallery, stored), settle, threading.Event())
    seen: dict[bytes, str] = {}
    for finding in feed.checked():
        first = seen.setdefault(finding.digest, finding.path)
        if first != finding.path:
            tell(Outcome(finding.path, "unchanged", 0, f"same content as {first}"))
        else:
            tell(Outcome(finding.path, "added" if finding.row is None else "replaced", 0, finding.reason))
    for number, root in enumerate(roots):
        if options.prune and gallery is not None and root is not None and number not in feed.lost_now():
            for row in gone(gallery, root, feed.listed.get(number, 0)):
                if row.id in copies:
                    tell(Outcome(copies[row.id], "moved", row.regions, f"was {row.path}"))
                elif row.id not in moved:
                    tell(Outcome(f"{root.location}/{row.path}", "removed", row.regions, "no longer in its folder"))
    summary.lost = {sources[number].uri: reason for number, reason in feed.lost.items()}
    summary.seconds = time.monotonic() - started
    return summary
