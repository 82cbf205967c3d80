"""Arguments that several gallery verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

GalleryPath = Annotated[Path, typer.Argument(metavar="NAME.claid", help="The gallery file.")]
Patterns = Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", help="Paths or quoted patterns (*, ?).")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]
WithLabel = Annotated[str | None, typer.Option("--label", help="Only images with this label.")]
InRoot = Annotated[str | None, typer.Option("--root", help="Only images of this root: its name or location.")]
