"""Videos that the gallery has, or now has, become changes of all their frames at once."""

from __future__ import annotations

from dataclasses import replace

from edge_claid.gallery.clips import finish, frame_path, seconds_of
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.enrolment.survey import Finding
from edge_claid.gallery.labels import folder_label
from edge_claid.gallery.storage.batch import Batch


def apply_clip(batch: Batch, finding: Finding, label: str | None, copies: dict[int, Finding]) -> Outcome:
    """A video that is unchanged, moved or a copy: all its frames are told as one file.

    label: the one given for it, or None. copies: gets, by image id, a frame at another place of the same content.
    """
    root = finding.root
    assert root is not None
    if not all(batch.has(frame.id) for frame in finding.frames):
        return Outcome(
            finding.path, "rejected", 0, "another process removed it from the gallery meanwhile; enrol again"
        )
    reasons = [f"{len(finding.frames)} key frames", finding.reason]
    for frame in finding.frames:
        place = frame_path(finding.relative, seconds_of(frame.path))
        if finding.copy:
            copies[frame.id] = replace(finding, path=frame_path(finding.path, seconds_of(frame.path)), relative=place)
        elif finding.status == "moved":
            batch.move(frame.id, root.id, place, finding.size, finding.mtime_ns)
        elif (frame.size, frame.mtime_ns) != (finding.size, finding.mtime_ns):
            batch.touch(frame.id, finding.size, finding.mtime_ns)
    if not finding.copy:
        reasons.append(_relabelled(batch, finding, label))
    regions = sum(frame.regions for frame in finding.frames)
    return Outcome(finding.path, finding.status, regions, "; ".join(filter(None, reasons)))


def end_clip(batch: Batch, finding: Finding) -> Outcome | None:
    """Count a frame, or note the end of its video. With the last of both the video is known as a whole.

    Returns what is to be told of a video that was damaged.
    """
    clip = finding.clip
    assert clip is not None
    if finding.status == "clip":
        clip.ended = True
    else:
        clip.applied += 1
    if clip.complete:
        finish(batch.connection, clip)
    if finding.status == "clip" and clip.problem is not None:
        return Outcome(finding.path, "rejected", 0, clip.problem)
    return None


def _relabelled(batch: Batch, finding: Finding, label: str | None) -> str | None:
    """Give the frames the video's label; says so where it is another one."""
    changed = False
    for frame in finding.frames:
        wanted = label
        if wanted is None and finding.status == "moved" and frame.label == folder_label(frame.path):
            # It was named by its folder, and has another one now.
            wanted = folder_label(finding.relative)
        elif wanted is None:
            continue
        if wanted != frame.label:
            batch.label(frame.id, wanted)
            changed = True
    return f"label is now {label}" if changed and label else None
