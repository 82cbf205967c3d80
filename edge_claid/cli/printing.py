"""Names and records as lines of text, whatever bytes a file name holds."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table


def shown(name: str) -> str:
    """A name on one line: control characters and bytes that are no text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def counted(number: int, thing: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def json_line(value: Any) -> str:
    """One line of JSON; plain ASCII where the terminal, or the name, knows no better."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def print_json(value: Any) -> None:
    """One JSON line on stdout, at once."""
    print(json_line(value), flush=True)


def print_table(table: Table) -> None:
    """A table on stdout; what stands in it is text, also where a name looks like Rich's markup."""
    Console(markup=False, emoji=False, highlight=False).print(table)
