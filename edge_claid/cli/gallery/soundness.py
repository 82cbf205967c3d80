"""``gallery verify``: is everything in a gallery sound, and keeping what is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edge_claid.cli.gallery.arguments import AsJson, GalleryPath
from edge_claid.cli.printing import counted, print_json, shown
from edge_claid.errors import GalleryError
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.repair import Mended, Repaired
from edge_claid.gallery.upkeep.repair import repair as run_repair
from edge_claid.gallery.upkeep.verify import Problem
from edge_claid.gallery.upkeep.verify import verify as run_verification


def verify(
    gallery: GalleryPath,
    repair: Annotated[
        bool, typer.Option("--repair", help="Keep all that is sound; the damaged file stays as NAME.claid.damaged.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Read everything and check it; exit 8 where something is wrong and was not repaired."""
    problems = 0
    images = 0
    try:
        with Gallery.open(gallery) as store:
            for problem in run_verification(store):
                problems += 1
                _tell_problem(problem, json)
            images = len(store) if not problems else 0
    except GalleryError as error:
        if not repair or not os.path.isfile(gallery):
            raise
        problems += 1
        _tell_problem(Problem(None, str(error)), json)
    if not problems:
        print_json({"images": images, "problems": 0}) if json else print(f"{counted(images, 'image')}, all sound")
    elif repair:
        _repair(gallery, json)
    else:
        raise GalleryError(
            f"gallery {gallery}: {counted(problems, 'problem')} found; "
            f"`edge-claid gallery verify --repair {gallery}` keeps what is sound"
        )


def _repair(gallery: Path, json: bool) -> None:
    repaired = run_repair(str(gallery))
    for one in repaired.mended:
        if json:
            print_json(asdict(one))
        else:
            print(f"{one.status} {_named(one)}: {one.reason}")
    counts = {
        status: sum(one.status == status for one in repaired.mended) for status in ("lost", "recoded", "lightened")
    }
    if json:
        print_json(
            {
                "repaired": {
                    "images": repaired.images,
                    **counts,
                    "lost_space": repaired.lost_space,
                    "restored_space": repaired.restored_space,
                    "damaged": repaired.damaged,
                }
            }
        )
        return
    print("\n".join(_summary(repaired, counts)))
    print(
        f"the damaged file is kept as {shown(repaired.damaged)}; "
        "`edge-claid enroll` of the same folders brings back what is lost"
    )


def _summary(repaired: Repaired, counts: dict[str, int]) -> Iterator[str]:
    yield f"repaired: {counted(repaired.images, 'image')} sound, {counts['lost']:,} lost"
    if counts["recoded"]:
        yield f"{counts['recoded']} were coded again from their float descriptors"
    if counts["lightened"]:
        yield f"{counts['lightened']} are kept without their float descriptors"
    if repaired.restored_space:
        yield "the code space was damaged and is restored from its copy"
    if repaired.lost_space:
        yield "the code space was damaged: searches use the float descriptors until `edge-claid gallery retrain`"


def _named(one: Mended) -> str:
    if one.image is None:
        return "an image whose name is gone too"
    return shown(f"{one.root}/{one.image}" if one.root is not None else one.image)


def _tell_problem(problem: Problem, json: bool) -> None:
    if json:
        print_json(asdict(problem))
    else:
        where = f"{shown(problem.image)}: " if problem.image is not None else ""
        print(f"{where}{problem.what}", flush=True)
