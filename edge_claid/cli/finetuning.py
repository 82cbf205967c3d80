"""``learn udq --finetune``: a network of the gallery's own, and the gallery moved to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_claid.cli.enroll import measure
from edge_claid.cli.gallery.recoding import pictures_behind
from edge_claid.cli.printing import print_json
from edge_claid.cli.progress import FileProgress
from edge_claid.codes.space import regions_needed
from edge_claid.config import CodeSettings, Settings, default_path, load_settings
from edge_claid.errors import UsageError
from edge_claid.gallery.enrolment.enroll import EnrollOptions
from edge_claid.gallery.enrolment.reencode import reencode
from edge_claid.gallery.store import Gallery
from edge_claid.models.zoo import ZooEntry, entry, tuned_entry

if TYPE_CHECKING:
    from edge_claid.learn.gallery_network import TunedNetwork
    from edge_claid.learn.udq import Progress, UdqSettings


def finetune_gallery(
    gallery: Path,
    code_bytes: int | None,
    refine: str,
    iterations: int,
    seed: int,
    dry_run: bool,
    json: bool,
    tell_progress: Callable[[Progress], None],
) -> None:
    """Fine-tune the descriptor network on a gallery's pictures, keep it, and move the gallery to it.

    Raises MachineError without a GPU before anything is read or written.
    """
    from edge_claid.learn.gallery_network import tuned_network
    from edge_claid.learn.machine import training_device

    device = training_device()
    present = load_settings()
    base = _base(present)
    with Gallery.open(gallery, "r" if dry_run else "rw") as store:
        info = store.info()
        codes = replace(present.codes, bytes=code_bytes or info.code_bytes or present.codes.bytes)
        settings = _checked_settings(codes, refine, iterations, seed, info.regions)
        plan = {"regions": info.regions, "bytes": codes.bytes, "refine": refine, "iterations": iterations}
        if dry_run:
            told = f"would fine-tune {base.name} on {info.regions:,} regions of {info.images:,} images"
            print_json({"learned": False, "base": base.name, **plan}) if json else print(told)
            return
        with _open_pipeline(present) as pipeline:
            store.require_pipeline(pipeline.id, pipeline.describe_settings)
            tuned = tuned_network(store, base, pipeline, codes, present.descriptors, settings, device, tell_progress)
        _move(store, tuned, settings, present, codes)
        answer = {"learned": True, "network": tuned.network.name, **plan, "code_space": store.info().code_space}
    if json:
        print_json({**answer, "settings": {"networks": {"descriptor": tuned.network.name}}})
    else:
        print(f"{gallery} is described by {tuned.network.name} now. To search it, set in {default_path()}:")
        print(_lines(tuned.network))


def _base(present: Settings) -> ZooEntry:
    base = entry(present.networks.descriptor)
    if base.tuned_from:
        raise UsageError(
            f"{base.name} is fine-tuned already: set descriptor = {base.tuned_from!r} under [networks] and move the "
            "gallery back to it with `edge-claid gallery reencode` to begin anew"
        )
    tuned_entry(base.name, base)
    return base


def _checked_settings(codes: CodeSettings, refine: str, iterations: int, seed: int, regions: int) -> UdqSettings:
    from edge_claid.learn.gallery_network import LEARNING_RATE, PICTURES, STEPS
    from edge_claid.learn.udq import UdqSettings, check_settings

    settings = UdqSettings(
        codes.bytes, refine, iterations, learning_rate=LEARNING_RATE, steps=STEPS, batch=PICTURES, seed=seed
    )
    check_settings(settings, codes.width)
    if regions < (needed := regions_needed(codes)):
        raise UsageError(f"UDQ needs {needed} regions to learn from, the gallery has {regions}: enrol more first")
    return settings


def _open_pipeline(settings: Settings) -> Any:
    from edge_claid.pipeline import Pipeline

    return Pipeline.open(settings)


def _move(store: Gallery, tuned: TunedNetwork, settings: UdqSettings, present: Settings, codes: CodeSettings) -> None:
    """Describe all images by the new network, and change the gallery over once that is complete."""
    typer.echo(
        f"{tuned.network.name} is kept; the gallery moves to it. Where that is interrupted, the gallery stays as it "
        f"was: `edge-claid gallery reencode {store.path}` goes on, with these lines in {default_path()}:\n"
        f"{_lines(tuned.network)}",
        err=True,
    )
    info = store.info()
    options = EnrollOptions(
        keep_descriptors=info.keep_descriptors, train=tuned.space(settings), train_least=regions_needed(codes)
    )
    moved = replace(present, networks=replace(present.networks, descriptor=tuned.network.name))
    with _open_pipeline(moved) as pipeline, FileProgress("describing", lambda: info.images) as told:
        reencode(store, pictures_behind(store), pipeline, options, report=lambda done: told.advance(done.status))
        measure(store, pipeline, replace(options, training=told.phase))


def _lines(network: ZooEntry) -> str:
    return f'[networks]\ndescriptor = "{network.name}"'
