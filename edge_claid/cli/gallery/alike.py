"""Images of a gallery that show what a picture shows, for verbs that act on them."""

from __future__ import annotations

from edge_claid import ops
from edge_claid.cli.enroll import open_pipeline
from edge_claid.cli.queries import one_query
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.selection import images_of_hits
from edge_claid.gallery.store import Gallery


def images_alike(store: Gallery, picture: str, box: str | None, above: float) -> dict[int, float]:
    """Image id to score, best first, of all images whose score is ``above`` or more.

    box: "x0,y0,x1,y1" of the thing in the picture, None for the whole picture. Raises GalleryError where the gallery
    is of another pipeline, UsageError for a picture or box that cannot be used.
    """
    query = one_query(picture, [box] if box else [])
    with open_pipeline() as pipeline:
        store.require_pipeline(pipeline.id, pipeline.describe_settings)
        finder = GallerySearch(store, ops.load().code_scan, pipeline.settings.search)
        hits = finder.query(pipeline.describe(query.image, boxes=query.boxes), 0)
    alike = [hit for hit in hits if hit.score >= above]
    return {row.id: hit.score for row, hit in images_of_hits(store, alike)}
