"""``gallery reencode`` and ``gallery retrain``: another pipeline, or another code book for the same one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edge_claid.cli.enroll import measure, open_pipeline, tell_outcome, tell_summary, with_training
from edge_claid.cli.gallery.arguments import AsJson, GalleryPath
from edge_claid.cli.printing import counted, print_json
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery.clips import spacing
from edge_claid.gallery.drift import drift_of
from edge_claid.gallery.enrolment.enroll import EnrollOptions
from edge_claid.gallery.enrolment.reencode import enrolled_files
from edge_claid.gallery.enrolment.reencode import reencode as run_reencoding
from edge_claid.gallery.recode import require_descriptors
from edge_claid.gallery.store import Gallery

CodeBytes = Annotated[int | None, typer.Option(help="Bytes per region of the new code space.")]


def reencode(
    gallery: GalleryPath,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Remove images whose pictures are gone.")
    ] = False,
    code_bytes: CodeBytes = None,
    json: AsJson = False,
) -> None:
    """Move the gallery to the present pipeline, from its pictures."""
    with Gallery.open(gallery, "rw") as store, open_pipeline() as pipeline:
        keep = store.info().keep_descriptors
        options = with_training(EnrollOptions(keep_descriptors=keep), code_bytes)
        tell = lambda outcome: tell_outcome(outcome, json)  # noqa: E731
        summary = run_reencoding(store, pictures_behind(store), pipeline, options, drop_missing, tell)
        measure(store, pipeline, options)
    tell_summary(summary, json)


def pictures_behind(store: Gallery) -> list[PictureFiles]:
    """The pictures of every image of a gallery, to be read again."""
    return [
        PictureFiles(
            root.location,
            root.location,
            [f"{root.location}/{path}" for path in paths],
            video_every=spacing(store, root.id),
        )
        for root, paths in enrolled_files(store)
    ]


def retrain(
    gallery: GalleryPath,
    if_drifted: Annotated[
        bool, typer.Option("--if-drifted", help="Only where the gallery has outgrown its code book.")
    ] = False,
    code_bytes: CodeBytes = None,
    json: AsJson = False,
) -> None:
    """Train the code space anew on the gallery of today, from the float descriptors it keeps.

    Others may search meanwhile; the new space takes the place of the old one in one transaction.
    """
    with Gallery.open(gallery, "rw") as store:
        before = drift_of(store)
        if if_drifted and not (before and before.drifted):
            print_json({"retrained": False, "drift": before and asdict(before)}) if json else print("not needed")
            return
        require_descriptors(store)
        options = with_training(EnrollOptions(), code_bytes)
        with open_pipeline() as pipeline:
            store.require_pipeline(pipeline.id, pipeline.describe_settings)
            assert options.train is not None
            store.adopt_space(options.train(store, pipeline))
            measure(store, pipeline, options)
        info = store.info()
    if json:
        print_json({"retrained": True, "code_space": info.code_space, "drift": before and asdict(before)})
    else:
        print(f"{counted(info.images, 'image')} coded in the new space {info.code_space}")
