"""``edge-claid enroll``: bring a gallery in step with folders of pictures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_claid.cli.printing import print_json, shown
from edge_claid.cli.progress import FileProgress
from edge_claid.cli.report import ReportFile
from edge_claid.errors import UsageError
from edge_claid.frames import open_source
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery.batch import Space
from edge_claid.gallery.enroll import EnrollOptions
from edge_claid.gallery.enroll import enroll as run_enrolment
from edge_claid.gallery.labels import Labels, read_labels
from edge_claid.gallery.outcome import STATUSES, Outcome, Summary
from edge_claid.gallery.store import Gallery

# What a user is told file by file; the rest is counted.
_WORTH_A_LINE = ("rejected", "removed", "moved")


def enroll(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Folders, pictures or quoted globs.")],
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
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Enrol pictures: new ones are described, known ones cost nothing, an interrupted run goes on."""
    if label is not None and labels is not None:
        raise UsageError("--label and --labels exclude each other")
    opened = open_pictures(sources)
    table = Labels(text=label) if labels is None else read_labels(labels)
    options = EnrollOptions(labels=table, prune=prune, dry_run=dry_run, keep_descriptors=keep_descriptors)
    with contextlib.ExitStack() as stack:
        written = stack.enter_context(ReportFile(report)) if report else None
        told = stack.enter_context(FileProgress("dry run" if dry_run else "enrolling", _counter(opened)))

        def tell(outcome: Outcome) -> None:
            tell_outcome(outcome, json)
            told.advance(outcome.status)
            if written:
                written.add(outcome)

        if dry_run:
            store = stack.enter_context(Gallery.open(gallery, "r")) if os.path.lexists(gallery) else None
            summary = run_enrolment(store, opened, None, options, tell)
        else:
            summary = _enrol(stack, gallery, opened, with_training(options, code_bytes), tell)
        if written:
            written.close_with(summary)
    tell_summary(summary, json)
    if strict and summary.counts["rejected"]:
        raise typer.Exit(1)


def open_pictures(uris: Sequence[str]) -> list[PictureFiles]:
    """Sources of still pictures. Raises UsageError for what is none."""
    opened = []
    for uri in uris:
        source = open_source(uri)
        if not isinstance(source, PictureFiles):
            raise UsageError(f"{uri}: a video cannot be enrolled; enrol pictures or a folder of them")
        opened.append(source)
    return opened


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
        return trained_space(gallery, settings, pipeline)

    return replace(options, train=train, train_least=least)


def tell_outcome(outcome: Outcome, json: bool) -> None:
    """One file, on stdout."""
    if json:
        print_json(outcome.as_json())
    elif outcome.status in _WORTH_A_LINE:
        reason = f": {shown(outcome.reason)}" if outcome.reason else ""
        print(f"{outcome.status} {shown(outcome.file)}{reason}", flush=True)


def tell_summary(summary: Summary, json: bool) -> None:
    """All files, on stdout."""
    if json:
        print_json(summary.as_json())
        return
    counts = ", ".join(f"{summary.counts[status]} {status}" for status in STATUSES if summary.counts[status])
    print(f"{counts or 'no files'} in {summary.seconds:.1f} s ({summary.images_per_second:.1f} images/s)")


def _enrol(
    stack: contextlib.ExitStack,
    path: Path,
    sources: list[PictureFiles],
    options: EnrollOptions,
    tell: Callable[[Outcome], None],
) -> Summary:
    if os.path.lexists(path):
        # A file that is no gallery is refused before the networks are loaded.
        Gallery.open(path, "create").close()
    pipeline = stack.enter_context(open_pipeline())
    store = stack.enter_context(Gallery.open(path, "create"))
    return run_enrolment(store, sources, pipeline, options, tell)


def _counter(sources: list[PictureFiles]) -> Callable[[], int]:
    return lambda: sum(not file.folder for source in sources for file in source.files())
