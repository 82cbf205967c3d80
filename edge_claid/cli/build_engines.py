"""``edge-claid build-engines``: TensorRT engines for the GPU of this machine, or for others."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_claid.cli.printing import print_json
from edge_claid.config import load_settings
from edge_claid.engines.build import Engine, Order, build_engine
from edge_claid.engines.choosing import Choice, choose
from edge_claid.engines.opening import try_engine
from edge_claid.engines.recipe import Recipe, recipe
from edge_claid.errors import UsageError
from edge_claid.models import open_network

_EVERY_SECONDS = 10.0


def build_engines(
    backend: Annotated[str, typer.Option(help="auto, tensorrt or tensorrt-rtx.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp16, fp32, int8 or fp8; default: the recipe's first.")] = None,
    target: Annotated[
        str | None, typer.Option(help="GPUs of other machines, as sm_86,sm_89,sm_120 (TensorRT for RTX).")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Network; again for more. Default: the pipeline's two.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures like yours, to calibrate and try engines on.")
    ] = None,
    memory: Annotated[
        int | None, typer.Option(metavar="MB", help="Most the builder may hold; default: what is free.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again what is built.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Build the engines of the default pipeline for the GPU at hand; say so where the CPU serves."""
    _check(calibration, memory)
    chosen = choose(backend, _targets(target))
    if chosen.library is None:
        typer.echo(chosen.reason, err=True)
        if json:
            print_json({"backend": "onnxruntime", "reason": chosen.reason})
        return
    typer.echo(f"{chosen.library.name} {chosen.library.version} for {', '.join(chosen.targets)}", err=True)
    for order in _orders(chosen, model, precision):
        limit = None if memory is None else memory << 20
        order = replace(order, calibration=calibration, memory_limit=limit, force=force)
        on_gpu = try_engine(order)
        with _Told(f"{order.network.name} at {order.precision}") as told:
            engine = build_engine(order, told.progress, on_gpu)
        _print(engine, json)


def _check(calibration: Path | None, memory: int | None) -> None:
    if calibration is not None and not calibration.is_dir():
        raise UsageError(f"--calibration {calibration} is no folder")
    if memory is not None and memory < 1:
        raise UsageError(f"--memory {memory} is no number of megabytes")


def _orders(chosen: Choice, model: Sequence[str] | None, precision: str | None) -> Iterator[Order]:
    """What to build, one a network; that all networks have a recipe and a precision is known before the first comes."""
    settings = load_settings()
    recipes = [recipe(name) for name in model or (settings.networks.vit, settings.networks.descriptor)]
    precisions = [_precision_of(known, recipes, precision, named=bool(model)) for known in recipes]
    assert chosen.library is not None
    for known, own_precision in zip(recipes, precisions, strict=True):
        network = open_network(known.network, layer=known.layer)
        yield Order(network, known, own_precision, chosen.library, chosen.targets, here=chosen.here, settings=settings)


def _precision_of(known: Recipe, every: Sequence[Recipe], asked: str | None, *, named: bool) -> str:
    """The precision asked for; a network that was not named and lacks it is built at its first, which is told."""
    if not named and asked not in (None, *known.precisions) and any(asked in other.precisions for other in every):
        typer.echo(f"{known.network} has no {asked}: it is built at {known.precisions[0]}", err=True)
        return known.precisions[0]
    return known.checked_precision(asked)


def _targets(text: str | None) -> tuple[str, ...]:
    targets = tuple(dict.fromkeys(part.strip().lower() for part in text.split(","))) if text else ()
    for target in targets:
        if not re.fullmatch(r"sm_\d{2,3}", target):
            raise UsageError(f"--target {target!r} is no GPU: give compute capabilities as sm_86,sm_89")
    return targets


def _print(engine: Engine, json: bool) -> None:
    known = engine.manifest
    if json:
        facts: dict[str, Any] = {
            "network": known.network, "precision": known.precision, "targets": known.compute_capabilities,
            "built": engine.fresh, "seconds": known.build_seconds, "bytes": known.engine_bytes,
            "builder_memory": known.build_memory_bytes, "verification": known.verification["status"],
            "folder": str(engine.folder),
        }  # fmt: skip
        print_json(facts)
        return
    how = f"built in {known.build_seconds:.0f} s" if engine.fresh else "was built already (--force builds it again)"
    typer.echo(
        f"{known.network} {known.precision} for {'+'.join(known.compute_capabilities)}: {how}, "
        f"{known.engine_bytes / 1e6:.0f} MB, {known.verification['status']}  {engine.folder}"
    )


class _Told:
    """Tells on stderr how a build goes: one line that changes on a terminal, else a line every 10 seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._at = ("trying the graph on ONNX Runtime", 0.0)
        self._ended = threading.Event()
        # Before the library tells anything, and within its long steps, nothing else would say that all goes on.
        self._clock = threading.Thread(target=self._tick, name="build progress", daemon=True)

    def __enter__(self) -> _Told:
        typer.echo(f"{self._name}: trying the graph on ONNX Runtime, then building", err=True)
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._clock.join()
        if self._terminal:
            typer.echo("\r\033[K", err=True, nl=False)

    def progress(self, phase: str, share: float) -> None:
        self._at = (phase, share)
        if self._terminal:
            self._tell()

    def _tick(self) -> None:
        while not self._ended.wait(1.0 if self._terminal else _EVERY_SECONDS):
            self._tell()

    def _tell(self) -> None:
        phase, share = self._at
        line = f"{self._name}: {share:4.0%} after {time.monotonic() - self._started:.0f} s, {phase}"
        typer.echo(f"\r\033[K{line[:110]}" if self._terminal else line, err=True, nl=not self._terminal)
