"""The command line in a child process that is forked, not started: a hundred of them take no longer than one start."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass

import stand_in

# Here, so that no child has to.
from edge_claid.cli import app, enroll, gallery  # noqa: F401
from edge_claid.errors import EdgeClaidError

HUNG_AFTER = 60.0  # seconds


@dataclass(frozen=True)
class Ended:
    """How a child ended. code: exit code, negative: the signal; None: it hung and was killed for that.

    out: what it wrote to stdout, whole lines only. error: stderr.
    """

    code: int | None
    out: list[str]
    error: str
    seconds: float


def run(work: Callable[[], None], kill_after: float | None = None, wait: float = HUNG_AFTER) -> Ended:
    """Do some work in a child; kill it (SIGKILL) after so many seconds where that is asked for."""
    sys.stdout.flush()
    sys.stderr.flush()
    out, out_end = os.pipe()
    error, error_end = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_child(work, out_end, error_end)
    os.close(out_end)
    os.close(error_end)
    kill_at = None if kill_after is None else started + kill_after
    texts, hung = _read(child, {out: b"", error: b""}, kill_at, started + wait)
    status = os.waitpid(child, 0)[1]
    seconds = time.monotonic() - started
    code = None if hung else os.waitstatus_to_exitcode(status)
    whole = texts[out][: texts[out].rfind(b"\n") + 1]
    return Ended(code, whole.decode().splitlines(), texts[error].decode(errors="replace"), seconds)


def command(arguments: list[str]) -> None:
    """``edge-claid ARGUMENTS`` with the stand-in for its networks; ends the process as the command does."""
    # Where the verbs look for it; the networks' libraries are not even loaded.
    module = types.ModuleType("edge_claid.pipeline")
    module.Pipeline = stand_in.StandInPipeline  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    sys.argv = ["edge-claid", *arguments]
    app.main()


def _be_child(work: Callable[[], None], out: int, error: int) -> None:
    os.dup2(out, 1)
    os.dup2(error, 2)
    code = 0
    try:
        work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except EdgeClaidError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except BaseException as failure:
        traceback.print_exception(failure)
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _read(child: int, texts: dict[int, bytes], kill_at: float | None, give_up: float) -> tuple[dict[int, bytes], bool]:
    """Everything the child writes until it ends; True where it had to be ended because it hung."""
    texts, open_ends, hung, killed = dict(texts), set(texts), False, False
    end_at = give_up if kill_at is None else kill_at
    while open_ends:
        left = end_at - time.monotonic()
        if left <= 0 and not killed:
            hung, killed = kill_at is None, True
            os.kill(child, signal.SIGKILL)
        for end in select.select(list(open_ends), [], [], 1.0 if killed else left)[0]:
            piece = os.read(end, 1 << 16)
            texts[end] += piece
            if not piece:
                open_ends.remove(end)
                os.close(end)
    return texts, hung
