"""A finding becomes a change of the gallery and an outcome, inside the batch that is committed before it is told."""

from __future__ import annotations

from typing import Any

from edge_claid.gallery.clips import video_of
from edge_claid.gallery.enrolment.clip_changes import apply_clip, end_clip
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.enrolment.sidecar import Sidecar
from edge_claid.gallery.enrolment.survey import Finding, Survey
from edge_claid.gallery.labels import Labels, folder_label
from edge_claid.gallery.storage.batch import Batch
from edge_claid.gallery.storage.rows import ImageRow, NewImage
from edge_claid.gallery.store import Gallery


class Changes:
    """Applies findings. copies: image id to a file with the same content, seen in this run at another place."""

    def __init__(self, gallery: Gallery, survey: Survey, labels: Labels):
        self._gallery = gallery
        self._survey = survey
        self._labels = labels
        self.copies: dict[int, Finding] = {}

    def apply(self, batch: Batch, finding: Finding) -> Outcome | None:
        """Make the change that a finding asks for; None where there is nothing to tell of it."""
        if finding.frames:
            return apply_clip(batch, finding, self._given(finding), self.copies)
        outcome = None if finding.status == "clip" else self._applied(batch, finding)
        if finding.clip is not None:
            outcome = end_clip(batch, finding) or outcome
        return outcome

    def _applied(self, batch: Batch, finding: Finding) -> Outcome:
        if finding.status in ("rejected", "skipped"):
            return Outcome(finding.path, finding.status, 0, finding.reason)
        if finding.status == "new":
            added = self._add(batch, finding)
            if added is not None:
                return added
        elif not self._still_true(finding):
            reason = "another process removed it from the gallery meanwhile; enrol again"
            return Outcome(finding.path, "rejected", 0, reason)
        row = finding.row
        assert row is not None
        assert finding.root is not None
        if finding.status == "moved":
            batch.move(row.id, finding.root.id, finding.relative, finding.size, finding.mtime_ns)
        elif finding.copy:
            self.copies[row.id] = finding
            # What this file held before it became a copy is in no file any more.
            if batch.displace(finding.root.id, finding.relative, but=row.id):
                finding.status = "replaced"
        elif (row.size, row.mtime_ns) != (finding.size, finding.mtime_ns):
            batch.touch(row.id, finding.size, finding.mtime_ns)
        self._relabel(batch, finding, row)
        return Outcome(finding.path, finding.status, row.regions, finding.reason)

    def _add(self, batch: Batch, finding: Finding) -> Outcome | None:
        """None where the same content came into the gallery since the survey; then the finding says so."""
        described, root = finding.described, finding.root
        assert described is not None
        assert root is not None
        image = NewImage(
            root_id=root.id,
            path=finding.relative,
            content_hash=finding.digest,
            size=finding.size,
            mtime_ns=finding.mtime_ns,
            described=described,
            label=self._given(finding) or folder_label(finding.relative),
            **_time_and_place(finding),
        )
        status, _ = batch.add(image)
        if status != "known":
            return Outcome(finding.path, status, len(described.regions), finding.reason)
        known = self._gallery.image_by_hash(finding.digest)
        assert known is not None
        self._survey.recognise(finding, known)
        return None

    def _still_true(self, finding: Finding) -> bool:
        """Look again, as an earlier file of this run may have changed what the survey saw. False where it is gone."""
        assert finding.row is not None
        digest = finding.digest or finding.row.content_hash
        current = self._gallery.image_by_hash(digest)
        if current is None:
            return False
        if (current.root_id, current.path, current.displaced) != _place(finding.row):
            self._survey.recognise(finding, current)
        finding.row = current
        return True

    def _relabel(self, batch: Batch, finding: Finding, row: ImageRow) -> None:
        label = None if finding.copy else self._given(finding)
        if label is None and finding.status == "moved" and row.label == folder_label(row.path):
            # It was named by its folder, and has another one now.
            label = folder_label(finding.relative)
            if label is None:
                batch.label(row.id, None)
        if label is not None and label != row.label:
            batch.label(row.id, label)
            finding.reason = "; ".join(filter(None, [finding.reason, f"label is now {label}"]))

    def _given(self, finding: Finding) -> str | None:
        """The label the user gave, else the one of the sidecar."""
        relative, path = video_of(finding.relative), video_of(finding.path)
        given = self._labels.given(relative, path)
        return given if given is not None or finding.sidecar is None else finding.sidecar.label


def _time_and_place(finding: Finding) -> dict[str, Any]:
    """What the picture says itself; where it says nothing, its sidecar."""
    own, beside = finding.exif or Sidecar(), finding.sidecar or Sidecar()
    placed = own if own.latitude is not None else beside
    return {"taken": own.taken or beside.taken, "latitude": placed.latitude, "longitude": placed.longitude}


def _place(row: ImageRow) -> tuple[int, str, bool]:
    return row.root_id, row.path, row.displaced
