"""``gallery verify``: is everything in a gallery sound, and keeping what is."""

from __future__ import annotations

from dataclasses import asdict

from edge_claid.cli.gallery.arguments import AsJson, GalleryPath
from edge_claid.cli.printing import print_json, shown
from edge_claid.errors import GalleryError
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.verify import verify as run_verification


def verify(gallery: GalleryPath, json: AsJson = False) -> None:
    """Read everything and check it; exit 8 where something is wrong."""
    problems = 0
    with Gallery.open(gallery) as store:
        for problem in run_verification(store):
            problems += 1
            where = f"{shown(problem.image)}: " if problem.image is not None else ""
            print_json(asdict(problem)) if json else print(f"{where}{problem.what}", flush=True)
        images = len(store)
    if problems:
        raise GalleryError(
            f"gallery {gallery}: {problems} problems found; remove the images named and enrol them again"
        )
    print_json({"images": images, "problems": 0}) if json else print(f"{images} images, all sound")
