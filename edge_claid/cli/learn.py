"""``edge-claid learn``: a gallery learns from its own pictures, without labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from edge_claid.cli.enroll import measure, open_pipeline
from edge_claid.cli.gallery.arguments import AsJson, GalleryPath
from edge_claid.cli.printing import print_json
from edge_claid.cli.progress import FileProgress
from edge_claid.codes.space import regions_needed
from edge_claid.config import CodeSettings, load_settings
from edge_claid.errors import GalleryError, UsageError
from edge_claid.gallery.enrolment.enroll import EnrollOptions
from edge_claid.gallery.info import GalleryInfo
from edge_claid.gallery.store import Gallery

if TYPE_CHECKING:
    from edge_claid.learn.udq import Progress, UdqSettings

app = typer.Typer(help="Learn from a gallery's own pictures, without labels (needs torch).", no_args_is_help=True)

CodeBytes = Annotated[int | None, typer.Option("--bytes", help="Bytes per region of the new codes; as many as now.")]


@app.callback()
def group() -> None:
    """Keeps ``udq`` a verb of its own while it is the only one."""


@app.command()
def udq(
    gallery: GalleryPath,
    code_bytes: CodeBytes = None,
    refine: Annotated[str, typer.Option(help="Refinement of the features: none, bfr, pbr or cbr.")] = "none",
    iterations: Annotated[int, typer.Option(help="Rounds after the first.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of every random choice.")] = 0,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Let the descriptor network itself learn; needs a CUDA GPU.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Learn a projection and a code book together (UDQ), and code the gallery anew in them.

    Others may search meanwhile; the new codes take the place of the old ones in one transaction. See docs/udq.md for
    what it brings.
    """
    if finetune:
        from edge_claid.cli.finetuning import finetune_gallery

        finetune_gallery(gallery, code_bytes, refine, iterations, seed, dry_run, json, _tell_progress)
        return
    from edge_claid.learn.udq import UdqSettings

    with Gallery.open(gallery, "r" if dry_run else "rw") as store:
        info = store.info()
        codes = load_settings().codes
        codes = replace(codes, bytes=code_bytes or info.code_bytes or codes.bytes)
        settings = UdqSettings(codes.bytes, refine, iterations, seed=seed)
        _require_learnable(info, codes, settings)
        plan = {"regions": info.regions, "bytes": codes.bytes, "refine": refine, "iterations": iterations}
        if dry_run:
            print_json({"learned": False, **plan}) if json else print(_sentence("would learn", info, codes.bytes))
            return
        space_id = _learn(store, codes, settings)
    if json:
        print_json({"learned": True, **plan, "code_space": space_id})
    else:
        print(f"{_sentence('learned', info, codes.bytes)}; new code space {space_id}")


def _learn(store: Gallery, codes: CodeSettings, settings: UdqSettings) -> str:
    """Learn, code all images in the new space, and measure how sure answers in it are; the id of the space."""
    from edge_claid.learn.gallery import learned_space

    with open_pipeline() as pipeline:
        store.require_pipeline(pipeline.id, pipeline.describe_settings)
        space = learned_space(store, codes, settings, pipeline, _tell_progress)
        with FileProgress("coding", lambda: len(store)) as told:
            store.adopt_space(space, advance=lambda images: _count(told, images))
            measure(store, pipeline, EnrollOptions(training=told.phase))
    return space.id


def _require_learnable(info: GalleryInfo, codes: CodeSettings, settings: UdqSettings) -> None:
    from edge_claid.learn.udq import check_settings

    check_settings(settings, codes.width)
    if info.described_images < info.images:
        raise GalleryError(
            f"gallery {info.path}: {info.images - info.described_images} images have no stored descriptors to learn "
            f"from; `edge-claid enroll SOURCE --gallery {info.path} --keep-descriptors` and then "
            f"`edge-claid gallery reencode {info.path}` make and keep them"
        )
    needed = regions_needed(codes)
    if info.regions < needed:
        raise UsageError(f"UDQ needs {needed} regions to learn from, the gallery has {info.regions}: enrol more first")


def _tell_progress(progress: Progress) -> None:
    typer.echo(
        f"learning: step {progress.done} of {progress.steps}, separability {progress.separability:.3f}, "
        f"discriminability {progress.discriminability:.3f}, quantisation {progress.quantisation:.3f}",
        err=True,
    )


def _count(told: FileProgress, images: int) -> None:
    for _ in range(images):
        told.advance("coded")


def _sentence(what: str, info: GalleryInfo, code_bytes: int) -> str:
    return f"{what} from {info.regions:,} regions of {info.images:,} images, {code_bytes} bytes a region"
