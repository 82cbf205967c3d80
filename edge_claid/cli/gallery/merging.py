"""``gallery merge``: the galleries of several devices become one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from edge_claid.cli.gallery.arguments import AsJson, GalleryPath
from edge_claid.cli.printing import print_json, shown
from edge_claid.errors import EdgeClaidError, UsageError
from edge_claid.gallery.storage.replace import remove_database
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.merge import Merged, MergeSummary
from edge_claid.gallery.upkeep.merge import merge as run_merge


def merge(
    gallery: GalleryPath,
    sources: Annotated[list[Path], typer.Argument(metavar="FROM...", help="Galleries to take images from.")],
    json: AsJson = False,
) -> None:
    """Add the images of other galleries of the same pipeline; made where it is missing. The others stay as they are."""

    def tell(outcome: Merged) -> None:
        if json:
            print_json(
                {"image": outcome.image, "root": outcome.root, "status": outcome.status, "reason": outcome.reason}
            )
        elif outcome.reason:
            print(f"{outcome.status} {shown(outcome.root)}/{shown(outcome.image)}: {shown(outcome.reason)}")

    is_new = not os.path.lexists(gallery)
    with contextlib.ExitStack() as stack:
        # Looked at first, so that a wrong name makes no empty gallery.
        opened = [stack.enter_context(Gallery.open(source)) for source in sources]
        if len({os.path.realpath(source) for source in [gallery, *sources]}) <= len(sources):
            raise UsageError("a gallery is named twice: name the one to merge into, then each other one once")
        into = stack.enter_context(Gallery.open(gallery, "create"))
        try:
            summaries = run_merge(into, opened, tell)
        except EdgeClaidError:
            if is_new and not len(into):
                into.close()
                remove_database(str(gallery))
            raise
    for summary in summaries:
        _tell_summary(summary, json)


def _tell_summary(summary: MergeSummary, json: bool) -> None:
    if json:
        facts = {"recoded": summary.recoded, "without_descriptors": summary.without_descriptors}
        print_json({"summary": {"from": summary.source} | summary.counts | facts})
        return
    counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items() if count) or "no images"
    how = "; codes made anew from float descriptors" if summary.recoded and summary.counts["added"] else ""
    print(f"{shown(summary.source)}: {counts}{how}")
    if summary.without_descriptors:
        typer.echo(
            f"{summary.without_descriptors} images came without float descriptors, which this gallery is set to keep",
            err=True,
        )
