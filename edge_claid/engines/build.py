"""From a network's name to an engine in the cache that can be trusted: typed graph, trial, build, trial, manifest."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from edge_claid.config import Settings
from edge_claid.engines import cache
from edge_claid.engines.acceptance import Report, compare, float32_run
from edge_claid.engines.builder import Built, Progress, run_builder
from edge_claid.engines.builder_process import Request
from edge_claid.engines.memory import OutOfMemoryError, check_room, needed_bytes
from edge_claid.engines.pictures import pictures_of, seen_by
from edge_claid.engines.recipe import Recipe
from edge_claid.engines.typed import graph_id, typed_file
from edge_claid.errors import AccuracyError, BuildError, EngineError, MachineError, UsageError
from edge_claid.models import NetworkFile
from edge_claid.models.cache import sha256_of
from edge_claid.runners.engine_file import ENGINE, FAILED, NOT_VERIFIED, PASSED, TIMING_CACHE, Manifest, read_manifest
from edge_claid.runners.onnx_runner import OnnxRunner
from edge_claid.runners.tensorrt_api import Flavour

log = logging.getLogger("edge_claid.engines")

# Ada; Hopper, Thor and Blackwell have it too.
_LEAST_OF_FP8 = 89
# Tries an engine that lies in a folder on the GPU at hand.
TryEngine = Callable[[Path, Manifest], Report]


@dataclass(frozen=True)
class Order:
    """What to build. targets: GPUs ("sm_86"); here: whether they are the GPU at hand.

    calibration: folder of the user's pictures, None for ours. memory_limit: bytes the builder may hold, None for what
    is free. force: build anew what is there.
    """

    network: NetworkFile
    recipe: Recipe
    precision: str
    library: Flavour
    targets: tuple[str, ...]
    here: bool = False
    calibration: Path | None = None
    memory_limit: int | None = None
    force: bool = False
    settings: Settings = field(default_factory=Settings)
    cache_dir: Path | None = None


@dataclass(frozen=True)
class Engine:
    """A built engine. fresh: built now, not found."""

    folder: Path
    manifest: Manifest
    fresh: bool


def build_engine(
    order: Order, progress: Progress = lambda phase, share: None, try_engine: TryEngine | None = None
) -> Engine:
    """Build an engine, or find it built. try_engine: how to try it where its GPU is at hand.

    A graph or engine that fails the acceptance test is built once more with the recipe's wider float32 set.
    Raises AccuracyError where that fails too, BuildError, StorageError, UsageError, MachineError.
    """
    name = f"{order.network.name} at {order.precision}"
    check_targets(order.precision, order.targets)
    cache.engines_folder(order.cache_dir)
    missed = ""
    widths = (False, True) if order.precision != "fp32" and order.recipe.half.wider else (False,)
    for wider in widths:
        onnx = typed_file(
            order.network,
            order.recipe,
            order.precision,
            wider=wider,
            calibration=order.calibration,
            settings=order.settings.networks,
            cache_dir=order.cache_dir,
        )
        engine = _found_or_built(order, onnx, wider, progress, try_engine)
        if engine.manifest.verification["status"] != FAILED:
            return engine
        missed = "; ".join(engine.manifest.verification["failures"])
        if wider is not widths[-1]:
            log.warning("%s fails the acceptance test (%s): trying with more of it in float32", name, missed)
    raise AccuracyError(
        f"{name} fails the acceptance test ({missed}): build it at fp32 (--precision fp32), or give "
        "pictures like yours with --calibration DIR"
    )


def check_targets(precision: str, targets: tuple[str, ...]) -> None:
    """Raises UsageError where one of these GPUs ("sm_87") cannot compute at this precision."""
    unfit = [target for target in targets if int(target.removeprefix("sm_")) < _LEAST_OF_FP8]
    if precision == "fp8" and unfit:
        raise UsageError(
            f"{' and '.join(unfit)} cannot multiply fp8, which takes sm_{_LEAST_OF_FP8} or later: take int8"
        )


def _found_or_built(order: Order, onnx: Path, wider: bool, progress: Progress, try_engine: TryEngine | None) -> Engine:
    library, shapes = order.library, order.recipe.shapes_on(order.targets)
    onnx_sha256 = sha256_of(onnx)
    key = cache.engine_key(
        onnx_sha256, library.name, library.version, library.cuda, order.targets, order.precision, shapes
    )
    waiting = partial(log.info, "waiting for another process that builds %s", order.network.name)
    with cache.building(key, waiting, order.cache_dir) as staging:
        target = staging.parent / key
        if not order.force:
            try:
                manifest = read_manifest(target)
                cache.verified_bytes(target, manifest)
                return Engine(target, manifest, False)
            except EngineError:
                pass
        trial = try_graph(order, onnx)
        if trial.failures:
            facts = _manifest(order, key, wider, onnx_sha256, Built(0.0, 0), staging)
            return Engine(target, facts.with_verification(_verification(FAILED, trial, None)), False)
        built = _build(order, onnx, staging, target, progress)
        manifest = _manifest(order, key, wider, onnx_sha256, built, staging)
        manifest = manifest.with_verification(_verification(NOT_VERIFIED, trial, None))
        if try_engine is not None and order.here:
            report = try_engine(staging, manifest)
            manifest = manifest.with_verification(_verification(FAILED if report.failures else PASSED, trial, report))
            if report.failures:
                return Engine(target, manifest, False)
        return Engine(cache.install(staging, manifest), manifest, True)


def try_graph(order: Order, onnx: Path) -> Report:
    """The typed graph on ONNX Runtime against float32: what can be tried without a GPU.

    Raises BuildError where one of the two cannot be loaded, UsageError where the pictures are too few.
    """
    paths, networks = pictures_of(order.calibration), order.settings.networks
    pictures = seen_by(paths, order.network, order.recipe, networks, log.warning)
    with contextlib.ExitStack() as opened:
        try:
            reference, candidate = (opened.enter_context(OnnxRunner(path)) for path in (order.network.path, onnx))
        except MachineError as error:  # of ONNX Runtime's CPU nothing else can be wrong
            raise BuildError(str(error)) from error
        run = float32_run(reference, order.network, order.recipe)
        return compare(order.network, order.recipe, order.settings, pictures, run, candidate.run_all)


def _build(order: Order, onnx: Path, staging: Path, target: Path, progress: Progress) -> Built:
    """Run the builder; on the GPU once more with a quarter of the scratch memory where memory did not suffice."""
    workspace = order.recipe.workspace_mb(order.targets) << 20
    timings = target / TIMING_CACHE
    if timings.is_file():
        (staging / TIMING_CACHE).write_bytes(timings.read_bytes())
    try:
        return _build_within(order, onnx, staging, workspace, progress)
    except OutOfMemoryError as error:
        # Off the GPU no scratch memory is used.
        if not order.here:
            raise
        log.warning("%s; trying again with %d MB of scratch memory", error, workspace >> 22)
    return _build_within(order, onnx, staging, workspace // 4, progress)


def _build_within(order: Order, onnx: Path, staging: Path, workspace: int, progress: Progress) -> Built:
    name = f"{order.network.name} at {order.precision}"
    needed = needed_bytes(onnx.stat().st_size, order.here, workspace)
    allowed = check_room(name, needed, order.memory_limit)
    shapes = order.recipe.shapes_on(order.targets)
    request = Request(
        flavour=order.library.name,
        onnx=str(onnx),
        engine=str(staging / ENGINE),
        timing_cache=str(staging / TIMING_CACHE),
        targets=[] if order.here else list(order.targets),
        shapes={key: list(getattr(shapes, key)) for key in ("smallest", "usual", "largest")},
        channels_last=order.recipe.input == "pixels",
        workspace_bytes=workspace,
    )
    return run_builder(name, request, allowed, progress)


def _manifest(order: Order, key: str, wider: bool, onnx_sha256: str, built: Built, staging: Path) -> Manifest:
    engine, shapes = staging / ENGINE, order.recipe.shapes_on(order.targets)
    return Manifest(
        key=key,
        network=order.network.name,
        layer=order.network.layer,
        precision=order.precision,
        wider=wider,
        input=order.recipe.input,
        outputs=list(order.recipe.outputs),
        shapes={name: list(getattr(shapes, name)) for name in ("smallest", "usual", "largest")},
        source_sha256=order.network.source_sha256,
        graph=graph_id(order.network.source_sha256, order.recipe, order.precision, wider),
        onnx_sha256=onnx_sha256,
        flavour=order.library.name,
        version=order.library.version,
        cuda=order.library.cuda,
        compute_capabilities=sorted(order.targets),
        engine_sha256=sha256_of(engine) if engine.is_file() else "",
        engine_bytes=engine.stat().st_size if engine.is_file() else 0,
        built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        build_seconds=round(built.seconds, 2),
        build_memory_bytes=built.memory,
        built_on=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def _verification(status: str, graph: Report, engine: Report | None) -> dict[str, Any]:
    """status, what failed, and the reports: of the graph on ONNX Runtime, and of the engine where it ran."""
    failures = (*graph.failures, *(engine.failures if engine else ()))
    onnx_report, engine_report = graph.as_json(), engine.as_json() if engine else None
    return {"status": status, "failures": list(failures), "graph": onnx_report, "engine": engine_report}
