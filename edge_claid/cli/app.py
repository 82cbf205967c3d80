"""The command ``edge-claid``: one file per verb group; this one ties them together and turns errors into exit codes."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from edge_claid import __version__
from edge_claid.cli import (
    bench,
    build_engines,
    doctor,
    engines,
    enroll,
    evaluate,
    gallery,
    learn,
    live,
    models,
    regions,
    search,
    serve,
    sources,
)
from edge_claid.config import RUNTIMES
from edge_claid.errors import EdgeClaidError, UsageError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

app = typer.Typer(
    name="edge-claid",
    help="Find this very thing again in a local gallery, with the box around it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(models.app, name="models")
app.command("build-engines")(build_engines.build_engines)
app.add_typer(engines.app, name="engines")
app.command("enroll")(enroll.enroll)
app.command("search")(search.search)
app.command("regions")(regions.regions)
app.command("live")(live.live)
app.command("serve")(serve.serve)
app.add_typer(gallery.app, name="gallery")
app.add_typer(learn.app, name="learn")
app.command("eval")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("sources")(sources.sources)
app.command("doctor")(doctor.doctor)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"edge-claid {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log line.")] = False,
    runtime: Annotated[
        str | None,
        typer.Option(
            help=f"What runs the networks, of {', '.join(RUNTIMES)}; else EDGE_CLAID_RUNTIME, else the settings."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the verb."""
    asked = "DEBUG" if debug else os.environ.get("EDGE_CLAID_LOG", "INFO").upper()
    if asked not in LOG_LEVELS:
        raise UsageError(f"EDGE_CLAID_LOG is {asked}; it must be one of {', '.join(LOG_LEVELS)}")
    if runtime is not None:
        os.environ["EDGE_CLAID_RUNTIME"] = runtime  # a flag beats the environment; settings are read by each verb
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=asked)


def main() -> None:
    """Run the command; errors become one line on stderr and their exit code."""
    debug = "--debug" in sys.argv[1:]
    try:
        app()
    except EdgeClaidError as error:
        _stop(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        _stop("interrupted; what was reported is stored", 130, debug)
    except BrokenPipeError:
        # The reader of stdout is gone (`| head`); nothing more is to be written there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if debug:
            raise
        _stop(f"unexpected {type(error).__name__}: {error} (run with --debug to see where)", 1, debug)


def _stop(message: str, code: int, debug: bool) -> None:
    if debug:
        logging.getLogger("edge_claid").exception("stopped")
    line = " ".join(message.splitlines())
    print(f"edge-claid: {line}", file=sys.stderr, flush=True)
    raise SystemExit(code) from None
