"""``edge-claid serve``: one page in the browser to search a gallery, enrol into it and watch a camera looked up."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_claid.cli.enroll import open_pipeline
from edge_claid.cli.looking import SOURCE_VARIABLE, SOURCES, Match, VitSide
from edge_claid.cli.termination import terminated_as_interrupted
from edge_claid.errors import MachineError
from edge_claid.frames import open_stream
from edge_claid.gallery.store import Gallery

if TYPE_CHECKING:
    from edge_claid.web.access import Access


def serve(
    gallery: Annotated[Path, typer.Option(help="Gallery file, NAME.claid; made where it is missing.")],
    source: Annotated[str | None, typer.Option(help=SOURCES, envvar=SOURCE_VARIABLE)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs the token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 8642,
    token: Annotated[
        str | None,
        typer.Option(envvar="EDGE_CLAID_TOKEN", help="What clients must show; made beyond loopback where not given."),
    ] = None,
    match: Match = None,
    vit_side: VitSide = None,
) -> None:
    """Serve one page: search, enrolment and the gallery; with --source also the live picture, looked up."""
    _require_extra()
    from edge_claid.live import WatchedGallery
    from edge_claid.web.access import Access
    from edge_claid.web.listening import listening
    from edge_claid.web.running import Running

    access = Access.for_host(host, token)
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminated_as_interrupted())
        listener = stack.enter_context(listening(host, port))
        if source is not None:
            # Only a look: what cannot work is said now, and later the source may come and go.
            open_stream(source)
        new = not gallery.exists()
        Gallery.open(gallery, "create").close()
        if new:
            typer.echo(f"gallery {gallery} is new and empty: enrol into it from the page", err=True)
        pipeline = stack.enter_context(open_pipeline())
        watched = stack.enter_context(WatchedGallery(str(gallery), pipeline, pipeline.code_scan))
        running = stack.enter_context(Running(gallery, pipeline, watched, access, source, match, vit_side))
        _greet(listener, access, token)
        running.serve(listener)


def _require_extra() -> None:
    """Raises MachineError where the libraries of the extra ``web`` are missing."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f'serve needs {" and ".join(missing)}, which are not installed: pip install "edge-claid[web]"'
        )


def _greet(listener: socket.socket, access: Access, given: str | None) -> None:
    """Where the page is, and the token where it was made here: this once, and never in an address."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"edge-claid serves http://{shown}:{port}/ (Ctrl-C ends it)", err=True)
    if access.token is not None and given is None:
        typer.echo(f"token to log in with, shown this once: {access.token}", err=True)
