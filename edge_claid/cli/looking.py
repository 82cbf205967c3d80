"""Options that ``live`` and ``serve`` share: how the stream is looked at."""

from __future__ import annotations

from typing import Annotated

import typer

SOURCES = "Picture, folder, glob, video, camera number, rtsp://, csi://, gst:."
SOURCE_VARIABLE = "EDGE_CLAID_SOURCE"  # other users of the machine see a command line with its passwords, not this
Match = Annotated[
    float | None, typer.Option(min=0.01, max=0.99, help="Least probability of a match that names a thing.")
]
VitSide = Annotated[
    int | None, typer.Option(min=112, max=1008, help="Input size for the regions; smaller is faster and coarser.")
]
