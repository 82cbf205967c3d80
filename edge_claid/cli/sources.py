"""``edge-claid sources``: the cameras of this machine."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer

from edge_claid.capture.gstreamer import has_element
from edge_claid.cli.printing import print_json
from edge_claid.frames.cameras import Camera, csi_cameras, v4l2_cameras

_OTHERS = (
    "other sources: a picture, folder, 'glob' or video file, rtsp://user:password@host/path, csi://0, "
    'gst:"videotestsrc ! …"'
)


def sources(json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False) -> None:
    """Cameras of this machine with their formats, sizes and rates."""
    cameras = v4l2_cameras()
    cameras += csi_cameras(cameras, lambda: has_element("nvarguscamerasrc"))
    if json:
        for camera in cameras:
            print_json(asdict(camera))
        return
    for camera in cameras:
        _print(camera)
    if not cameras:
        typer.echo("no camera on this machine")
    typer.echo(_OTHERS, err=True)


def _print(camera: Camera) -> None:
    typer.echo(f"{camera.uri}  {camera.name}" + (f"  [{camera.driver}]" if camera.driver else ""))
    if camera.stable:
        typer.echo(f"  the same camera wherever it is plugged in: {camera.stable}")
    if camera.problem:
        typer.echo(f"  {camera.problem}")
    for name, formats in groupby(camera.formats, key=lambda format_: format_.format):
        for entry in formats:
            rates = ", ".join(f"{rate:g}" for rate in entry.rates)
            width, height = entry.size
            typer.echo(f"  ?size={width}x{height}&format={name}" + (f"  {rates} frames a second" if rates else ""))
