"""Commands that an enrolment runs when it is done or failed: to light a lamp, to beep, to tell somebody."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_claid.cli.printing import counted
from edge_claid.errors import UsageError
from edge_claid.gallery.enrolment.outcome import STATUSES, Summary

_MOST_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hook:
    """A command as words; run without a shell, so nothing that stands on a stick is ever a command.

    What happened is told through environment variables EDGE_CLAID_*.
    """

    words: tuple[str, ...] = ()

    @classmethod
    def parsed(cls, text: str | None, option: str) -> Hook:
        """The command that a user wrote; no hook for None. Raises UsageError where it cannot be run."""
        if text is None:
            return cls()
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise UsageError(f"{option} {text!r} cannot be read as a command ({error})") from error
        if not words or shutil.which(words[0]) is None:
            raise UsageError(f"{option}: there is no program {words[0] if words else text!r}; name one by its path")
        return cls(words)

    def run(self, facts: Mapping[str, object]) -> None:
        """Run it and wait for it; its failure is a warning. facts: names without the prefix, to values."""
        if not self.words:
            return
        told = {f"EDGE_CLAID_{name.upper()}": _text(value) for name, value in facts.items()}
        try:
            # In a session of its own, so that Ctrl-C at the terminal does not reach it.
            ended = subprocess.run(
                self.words,
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                timeout=_MOST_SECONDS,
                start_new_session=True,
                check=False,
            )
        except (OSError, ValueError) as error:
            log.warning("%s could not be run (%s)", self.words[0], error)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end within %.0f s and was stopped", self.words[0], _MOST_SECONDS)
        else:
            if ended.returncode:
                log.warning("%s ended with %d", self.words[0], ended.returncode)


@dataclass(frozen=True)
class Hooks:
    """done: run when an enrolment ended; error: when one failed, lost its source or rejected files."""

    done: Hook
    error: Hook
    gallery: Path

    def ended(self, summary: Summary) -> None:
        """After an enrolment that went through."""
        facts: dict[str, Any] = {"gallery": self.gallery, "seconds": round(summary.seconds, 1)}
        facts |= {status: summary.counts[status] for status in STATUSES}
        if summary.counts["rejected"]:
            self.error.run(facts | {"reason": f"{counted(summary.counts['rejected'], 'file')} rejected"})
        self.done.run(facts)

    def failed(self, error: BaseException) -> None:
        """After one that did not."""
        self.error.run({"gallery": self.gallery, "reason": str(error), "exit_code": getattr(error, "exit_code", 1)})

    @contextlib.contextmanager
    def told_of_errors(self) -> Iterator[None]:
        """Run the error's hook for what the block raises, and raise it."""
        try:
            yield
        except Exception as error:
            self.failed(error)
            raise


def _text(value: object) -> str:
    return str(value).replace("\0", " ")
