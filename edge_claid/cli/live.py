"""``edge-claid live``: look a stream of frames up in a gallery, or find given objects in it, frame after frame."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_claid.cli.enroll import open_pipeline
from edge_claid.cli.looking import SOURCE_VARIABLE, SOURCES, Match, VitSide
from edge_claid.cli.printing import shown
from edge_claid.cli.queries import box_from_text
from edge_claid.cli.termination import terminated_as_interrupted
from edge_claid.errors import UsageError
from edge_claid.frames import open_stream

if TYPE_CHECKING:
    # The loop needs the networks' runtime, which takes seconds that other verbs need not wait.
    from edge_claid.live import Lookup, Sink, WatchedGallery
    from edge_claid.live.lookup import Namer

ENDING_SECONDS = 5.0  # what an output gets to take one answer once the run was interrupted
WHOLE = "all"  # a --box that stands for the whole picture


def live(
    source: Annotated[str, typer.Argument(help=SOURCES, envvar=SOURCE_VARIABLE)],
    gallery: Annotated[Path, typer.Option(help="Gallery file, NAME.claid.")],
    find: Annotated[list[str] | None, typer.Option(help="Picture of an object to find; may be repeated.")] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="x0,y0,x1,y1 in the --find picture; with several pictures one each, in order, or 'all'."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Open a window; q closes it.")] = False,
    save: Annotated[Path | None, typer.Option(help="Annotated video: .mp4, .mkv, .mov, .avi, .webm.")] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON line a frame, and one an event.")] = False,
    match: Match = None,
    false_alarms_per_hour: Annotated[
        float | None, typer.Option(min=0.0001, help="Set the threshold by this rate of false alarms instead.")
    ] = None,
    vit_side: VitSide = None,
    max_reconnects: Annotated[
        int | None, typer.Option(min=0, help="Attempts in a row to open a lost source anew; without it, for ever.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Frames looked at at once; one per core.")] = None,
) -> None:
    """Look a stream up in a gallery: what is each thing, where, how sure; with --find, where are these objects."""
    if match is not None and false_alarms_per_hour is not None:
        raise UsageError("--match and --false-alarms-per-hour both set the threshold: give one of them")
    sought = paired_boxes(find or [], box or [])
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminated_as_interrupted())
        stop: list[Lookup] = []
        sinks = _sinks(json, save, show, lambda: stop[0].stop_soon() if stop else None)
        if save is not None and save.exists() and os.path.exists(source) and os.path.samefile(save, source):
            raise UsageError(f"--save {save} is the source itself: choose another name")
        stream = open_stream(source, max_reconnects=max_reconnects)  # only a look: it is entered below
        pipeline = stack.enter_context(open_pipeline())
        watched = stack.enter_context(_watched(gallery, pipeline))
        if not watched.holdings.items and not sought:
            typer.echo(f"gallery {gallery} is empty: enrol pictures into it; they appear here at once", err=True)
        namer = _namer(pipeline, sought, match, false_alarms_per_hour)
        stop.append(_lookup(stack.enter_context(stream), pipeline, vit_side, watched, namer, sinks, workers))
        _run(stop[0])


def paired_boxes(pictures: Sequence[str], boxes: Sequence[str]) -> list[tuple[str, tuple[float, ...] | None]]:
    """Each object that is sought: its picture and the box in it, None for the whole picture.

    One picture may have many boxes, an object each; several pictures have one each, in order. Raises UsageError.
    """
    corners = [None if text == WHOLE else box_from_text(text) for text in boxes]
    if not pictures:
        if boxes:
            raise UsageError("--box says where in a --find picture the object is: give --find PICTURE too")
        return []
    if not corners:
        return [(picture, None) for picture in pictures]
    if len(pictures) == 1:
        return [(pictures[0], one) for one in corners]
    if len(pictures) != len(corners):
        raise UsageError(
            f"{len(pictures)} --find pictures and {len(corners)} boxes: with several pictures give one --box each, "
            f"in the same order; --box {WHOLE} stands for the whole picture"
        )
    return list(zip(pictures, corners, strict=True))


def _sinks(json: bool, save: Path | None, show: bool, stop: Any) -> list[Sink]:
    """Outputs that were asked for; each finds out now what cannot work, before any network is loaded."""
    from edge_claid.live.json_lines import JsonLines
    from edge_claid.live.text_lines import EventLog, TextLines
    from edge_claid.live.video_file import VideoFileSink
    from edge_claid.live.window import Window

    sinks: list[Sink] = [EventLog(), JsonLines() if json else TextLines(shown)]
    if save is not None:
        sinks.append(VideoFileSink(save))
    if show:
        sinks.append(Window(stop))
    return sinks


def _watched(gallery: Path, pipeline: Any) -> WatchedGallery:
    from edge_claid.live import WatchedGallery

    return WatchedGallery(str(gallery), pipeline, pipeline.code_scan)


def _namer(
    pipeline: Any,
    sought: Sequence[tuple[str, tuple[float, ...] | None]],
    match: float | None,
    false_alarms_per_hour: float | None,
) -> Namer:
    from edge_claid.live import Recogniser, Threshold
    from edge_claid.live.targets import finder_of, target_from_picture

    settings = pipeline.settings.live
    threshold = Threshold(match or settings.match, settings.expected_odds, false_alarms_per_hour)
    if not sought:
        return Recogniser(settings, threshold)
    targets = [target_from_picture(pipeline, picture, corners) for picture, corners in sought]
    return finder_of(targets, settings, threshold)


def _lookup(
    stream: Any,
    pipeline: Any,
    vit_side: int | None,
    watched: WatchedGallery,
    namer: Namer,
    sinks: list[Sink],
    workers: int | None,
) -> Lookup:
    from edge_claid.live import Lookup, PipelineLooker
    from edge_claid.runners.onnx_runner import usable_cores

    settings = pipeline.settings.live
    count = workers or settings.workers or usable_cores()
    return Lookup(stream, PipelineLooker(pipeline, vit_side), watched, namer, settings, sinks, workers=count)


def _run(lookup: Lookup) -> None:
    """To the end of the source, and the summary; an interruption ends the run in good order first."""
    from edge_claid.live.metrics import summary_text

    try:
        lookup.start()
        try:
            while not lookup.wait(1.0):
                pass
        except KeyboardInterrupt:
            lookup.stop(ENDING_SECONDS)
            raise
        lookup.stop()
    finally:
        typer.echo(summary_text(lookup.metrics.summary()), err=True)
