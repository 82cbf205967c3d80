"""``edge-claid regions``: show how a picture is decomposed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge_claid import drawing
from edge_claid.cli.enroll import open_pipeline
from edge_claid.cli.printing import print_json, shown
from edge_claid.cli.saved_names import SavedNames
from edge_claid.errors import BadImageError
from edge_claid.frames import open_source
from edge_claid.records import Frame, Regions


def regions(
    source: Annotated[str, typer.Argument(help="Picture, folder or quoted glob.")],
    save: Annotated[Path | None, typer.Option(help="Folder for one annotated picture a level of the tree.")] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON line a picture.")] = False,
) -> None:
    """Decompose pictures into instance regions and draw the tree, level by level."""
    used = 0
    reasons: list[str] = []
    saved = SavedNames()
    with open_source(source) as frames, open_pipeline() as pipeline:
        for frame in frames:
            if isinstance(frame, Exception):
                reasons.append(str(frame))
                typer.echo(f"rejected: {shown(str(frame))}", err=True)
                continue
            found = pipeline.regions(frame)
            used += 1
            _tell(frame, found, json)
            if save:
                name = saved.name_of(frame.name)
                for level, picture in enumerate(drawing.region_levels(frame, found), 1):
                    drawing.save_picture(save / f"{name}-level{level}.jpg", picture)
    if not used:
        raise BadImageError(reasons[0] if len(reasons) == 1 else f"{source}: no picture there can be used")
    if save:
        typer.echo(f"annotated pictures: {shown(str(save))}", err=True)


def _tell(frame: Frame, found: Regions, json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "box": [round(float(value), 1) for value in found.boxes[row]],
            "parent": int(found.parents[row]),
            "depth": int(found.depths[row]),
            "tokens": int(found.areas[row]),
            "energy": round(float(found.energy[row]), 4),
            "connectivity": round(float(found.connectivity[row]), 4),
        }
        for row in range(len(found))
    ]
    if json:
        print_json({"image": frame.name, "grid": list(found.grid), "regions": rows})
        return
    print(f"{shown(frame.name)}: {len(found)} regions on {found.grid[0]} x {found.grid[1]} tokens")
    for row in rows:
        print(f"  {'  ' * row['depth']}{row['box']}  {row['tokens']} tokens")
