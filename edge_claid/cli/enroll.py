"""``edge-claid enroll``: bring a gallery in step with folders of pictures."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_claid.cli.durations import seconds_from_text
from edge_claid.cli.hooks import Hook, Hooks
from edge_claid.cli.printing import print_json, shown
from edge_claid.cli.progress import FileProgress
from edge_claid.cli.report import ReportFile
from edge_claid.cli.watch import Watch
from edge_claid.errors import UsageError
from edge_claid.frames.folder import PictureFiles
from edge_claid.frames.source import open_pictures
from edge_claid.gallery.enrolment.budget import Estimate
from edge_claid.gallery.enrolment.enroll import EnrollOptions
from edge_claid.gallery.enrolment.enroll import enroll as run_enrolment
from edge_claid.gallery.enrolment.outcome import STATUSES, Outcome, Summary
from edge_claid.gallery.labels import Labels, read_labels
from edge_claid.gallery.storage.batch import Space
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)

# What a user is told file by file; the rest is counted.
_WORTH_A_LINE = ("rejected", "removed", "moved")


def enroll(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Folders, pictures, videos or quoted globs.")
    ],
    gallery: Annotated[Path, typer.Option(help="Gallery file, NAME.claid; made where it is missing.")],
    label: Annotated[str | None, typer.Option(help="Label for every picture.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV table: path, label.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove images whose files are gone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    report: Annotated[Path | None, typer.Option(help="A line per file: .csv, else JSON lines.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where a file was rejected.")] = False,
    keep_descriptors: Annotated[
        bool | None,
        typer.Option("--keep-descriptors/--drop-descriptors", help="Keep float descriptors beside the codes."),
    ] = None,
    code_bytes: Annotated[int | None, typer.Option(help="Bytes per region of a new code space.")] = None,
    video_every: Annotated[
        str, typer.Option(metavar="TIME", help="A key frame of videos so often, like 1s; 0: no videos.")
    ] = "1s",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: enrol what comes into the folders and what is mounted below them.")
    ] = False,
    every: Annotated[str, typer.Option(metavar="TIME", help="With --watch: look for new files so often.")] = "30s",
    on_done: Annotated[str | None, typer.Option(metavar="CMD", help="Run this command when done.")] = None,
    on_error: Annotated[str | None, typer.Option(metavar="CMD", help="Run this command on rejects and errors.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Enrol pictures: new ones are described, known ones cost nothing, an interrupted run goes on."""
    if label is not None and labels is not None:
        raise UsageError("--label and --labels exclude each other")
    if watch and (prune or dry_run):
        raise UsageError("--watch goes with neither --prune nor --dry-run: a medium that is pulled is not one emptied")
    hooks = Hooks(Hook.parsed(on_done, "--on-done"), Hook.parsed(on_error, "--on-error"), gallery)
    spacing = seconds_from_text(video_every, "--video-every", 0.04)
    table = Labels(text=label) if labels is None else read_labels(labels)
    options = EnrollOptions(labels=table, prune=prune, dry_run=dry_run, keep_descriptors=keep_descriptors)
    with contextlib.ExitStack() as stack:
        written = stack.enter_context(ReportFile(report)) if report else None
        run = _Run(gallery, options, code_bytes, json, written, worth_telling=100 if watch else 1)
        if watch:
            _watch(sources, spacing, seconds_from_text(every, "--every", 1.0) or 30.0, run, hooks)
            return
        stack.enter_context(_sigterm(_interrupt))
        with hooks.told_of_errors():
            summary = run.once(stack, [open_pictures(source, spacing) for source in sources])
            tell_summary(summary, json)
            summary.require_sources()
        hooks.ended(summary)
    if strict and summary.counts["rejected"]:
        raise typer.Exit(1)


def open_pipeline() -> Any:
    """The default pipeline, opened; imported here because its networks take seconds that other verbs need not wait."""
    from edge_claid.pipeline import Pipeline

    return Pipeline.open()


def with_training(options: EnrollOptions, code_bytes: int | None) -> EnrollOptions:
    """The options with the training of our code spaces. Raises UsageError for a code length that cannot be."""
    from edge_claid.codes.space import regions_needed
    from edge_claid.config import load_settings
    from edge_claid.gallery.training import trained_space

    settings = load_settings().codes
    if code_bytes is not None:
        # Known before the pictures are described, not after hours of it.
        if code_bytes < 1 or settings.width % code_bytes:
            raise UsageError(f"codes of {code_bytes} bytes do not divide {settings.width} dimensions: take 8, 16 or 32")
        settings = replace(settings, bytes=code_bytes)
    least = max(options.train_least, regions_needed(settings))

    def train(gallery: Gallery, pipeline: Any) -> Space:
        return trained_space(gallery, settings, pipeline, told=options.training)

    return replace(options, train=train, train_least=least)


def measure(gallery: Gallery, pipeline: Any, options: EnrollOptions) -> None:
    """How sure answers of the gallery are, measured where it is not known yet, or has changed too much."""
    from edge_claid import ops
    from edge_claid.gallery.lookup.calibrate import keep_calibrated

    keep_calibrated(gallery, ops.load().code_scan, pipeline, options.training)


def tell_outcome(outcome: Outcome, json: bool) -> None:
    """One file, on stdout."""
    if json:
        print_json(outcome.as_json())
    elif outcome.status in _WORTH_A_LINE:
        reason = f": {shown(outcome.reason)}" if outcome.reason else ""
        print(f"{outcome.status} {shown(outcome.file)}{reason}", flush=True)


def tell_summary(summary: Summary, json: bool) -> None:
    """All files, on stdout; on stderr what the gallery now asks for."""
    if summary.outgrown:
        log.warning("%s", summary.outgrown)
    if json:
        print_json(summary.as_json())
        return
    counts = ", ".join(f"{summary.counts[status]} {status}" for status in STATUSES if summary.counts[status])
    if summary.rehearsed:
        print(f"would be: {counts or 'no files'}; nothing was written")
        return
    training = f", {summary.training_seconds:.1f} s of it training" if summary.training_seconds else ""
    rate = f" ({summary.images_per_second:.1f} images/s)" if summary.images_per_second else ""
    print(f"{counts or 'no files'} in {summary.seconds:.1f} s{training}{rate}")


@dataclass
class _Run:
    """What one enrolment, or each round of a watch, does and tells.

    worth_telling: pictures from which on the need of disk and memory is told.
    """

    gallery: Path
    options: EnrollOptions
    code_bytes: int | None
    json: bool
    written: ReportFile | None
    worth_telling: int = 1

    def once(self, stack: contextlib.ExitStack, sources: list[PictureFiles], pipeline: Any = None) -> Summary:
        """Enrol; what is opened for it lives as long as ``stack``. pipeline: one that is open already."""
        what = "dry run" if self.options.dry_run else "enrolling"
        told = stack.enter_context(FileProgress(what, lines=self.json))

        def tell(outcome: Outcome) -> None:
            tell_outcome(outcome, self.json)
            told.advance(outcome.status)
            if self.written:
                self.written.add(outcome)

        def planned(estimate: Estimate) -> None:
            told.expect(estimate.outcomes)
            for line in estimate.lines() if estimate.new >= self.worth_telling else ():
                print(line, file=sys.stderr, flush=True)

        options = replace(self.options, planned=planned, training=told.phase)
        if options.dry_run:
            store = stack.enter_context(Gallery.open(self.gallery, "r")) if os.path.lexists(self.gallery) else None
            options = replace(options, path=str(self.gallery))
            summary = run_enrolment(store, sources, None, options, tell)
        else:
            summary = self._enrol(stack, sources, options, tell, pipeline)
        if self.written:
            self.written.close_with(summary)
        return summary

    def _enrol(
        self,
        stack: contextlib.ExitStack,
        sources: list[PictureFiles],
        options: EnrollOptions,
        tell: Callable[[Outcome], None],
        pipeline: Any,
    ) -> Summary:
        options = with_training(options, self.code_bytes)
        if os.path.lexists(self.gallery):
            # A file that is no gallery is refused before the networks are loaded.
            Gallery.open(self.gallery, "create").close()
        pipeline = pipeline or stack.enter_context(open_pipeline())
        store = stack.enter_context(Gallery.open(self.gallery, "create"))
        summary = run_enrolment(store, sources, pipeline, options, tell)
        if not summary.stopped:
            measure(store, pipeline, options)
        return summary


def _watch(folders: list[str], video_every: float | None, every: float, run: _Run, hooks: Hooks) -> None:
    for folder in folders:
        if not os.path.isdir(folder):
            raise UsageError(f"{folder}: --watch needs folders that exist, such as the one media are mounted below")
    with contextlib.ExitStack() as stack:
        opened: list[Any] = []

        def enrol(arrivals: Sequence[PictureFiles]) -> Summary:
            if not opened:
                opened.append(stack.enter_context(open_pipeline()))
            with contextlib.ExitStack() as round_of_its_own:
                summary = run.once(round_of_its_own, list(arrivals), opened[0])
            tell_summary(summary, run.json)
            return summary

        watched = stack.enter_context(Watch(folders, video_every, every, enrol, hooks, run.options.stop))
        stack.enter_context(_sigterm(watched.end))
        watched.run()


@contextlib.contextmanager
def _sigterm(act: Callable[[], None]) -> Iterator[None]:
    """While the block runs, a request to end (systemd's, a shutdown's) ends the work and not the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt() -> None:
    raise KeyboardInterrupt
