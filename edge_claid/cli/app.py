"""The command ``edge-claid``: one file per verb group; this one ties them together and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import threading
from typing import Annotated, Any, NoReturn

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
from edge_claid.cli.printing import shown
from edge_claid.config import RUNTIMES
from edge_claid.errors import EdgeClaidError, UsageError

# Click's UsageError, which some versions of Typer import and others carry in themselves.
_WrongUse: Any = typer.BadParameter.__mro__[1]
_FLUSH_SECONDS = 5.0
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
    if runtime is not None and runtime not in RUNTIMES:
        raise UsageError(f"--runtime {runtime}: choose one of {', '.join(RUNTIMES)}")
    if runtime is not None:
        os.environ["EDGE_CLAID_RUNTIME"] = runtime  # a flag beats the environment; settings are read by each verb
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Shown())
    logging.basicConfig(handlers=[handler], level=asked)


class _Shown(logging.Formatter):
    """Messages name files, and a file's name may hold what would steer the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record))


def main() -> None:
    """Run the command; errors become one line on stderr and their exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:  # the advice to add it says nothing of where
        arguments = ["--debug", *(word for word in arguments if word != "--debug")]
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding lacks letters for ends no batch; nor does an output that was exchanged.
        with contextlib.suppress(OSError):
            sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
    except EdgeClaidError as error:
        _end_stdout()
        _stop(str(error), error.exit_code, debug)
    except _WrongUse as error:
        _stop(_wrong_use(error), UsageError.exit_code, debug)
    except KeyboardInterrupt:
        _stop("interrupted; what was reported is stored", 130, debug)
    except BrokenPipeError:
        # The reader of stdout is gone (`| head`): no word about it, but what was asked for is not done.
        _end_stdout()
        raise SystemExit(1) from None
    except Exception as error:
        _end_stdout()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _stop(f"{error.filename or 'the output'} cannot be written: {error.strerror}; make room", 9, debug)
        if isinstance(error, PermissionError) and error.filename:
            _stop(f"{error.filename}: {error.strerror}; change its permissions or name another place", 9, debug)
        if debug:
            raise
        _stop(f"unexpected {type(error).__name__}: {error} (run with --debug to see where)", 1, debug)
    raise SystemExit(code)


def _run(arguments: list[str]) -> int:
    """The exit code of a command that came to its end; what ended it otherwise is raised."""
    command = typer.main.get_command(app)
    try:
        # Not by the command's own main, which has other words and codes for Ctrl-C, a closed pipe and wrong use.
        with command.make_context("edge-claid", arguments) as context:
            command.invoke(context)
        code = 0
    except typer.Exit as ended:
        code = ended.exit_code
    if sys.stdout is not None:
        sys.stdout.flush()  # at exit nobody could tell that it failed
    return code


def _wrong_use(error: Any) -> str:
    """One line of what Typer says of a command line; the whole help where there was nothing but the verb."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), end="")  # empty where Typer has printed it already
        raise SystemExit(UsageError.exit_code) from None
    path = error.ctx.command_path if error.ctx is not None else "edge-claid"
    return f"{error.format_message().rstrip('.')}; `{path} --help` says what it takes"


def _end_stdout() -> None:
    """What the output still takes is written; the rest goes nowhere, as writing it at exit would fail once more."""

    def flush() -> None:
        try:
            sys.stdout.flush()
        except (OSError, ValueError, AttributeError):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    # Not for ever: of a pipe that nobody reads, a sink of `live` may still be at its last line.
    flushing = threading.Thread(target=flush, name="end stdout", daemon=True)
    flushing.start()
    flushing.join(_FLUSH_SECONDS)


def _stop(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        logging.getLogger("edge_claid").exception("stopped")
    print(f"edge-claid: {shown(' '.join(message.splitlines()))}", file=sys.stderr, flush=True)
    raise SystemExit(code) from None
