"""Engines of the cache, opened to be used: found, fitting, tried on this GPU before the first answer they give."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_claid.config import Settings
from edge_claid.engines import cache
from edge_claid.engines.acceptance import Report, compare, float32_run
from edge_claid.engines.build import Order, TryEngine
from edge_claid.engines.pictures import pictures_of, seen_by
from edge_claid.engines.recipe import Recipe, recipe
from edge_claid.engines.typed import graph_id
from edge_claid.errors import AccuracyError, EngineError, StorageError
from edge_claid.models import NetworkFile, open_network
from edge_claid.runners.engine_file import FAILED, NOT_VERIFIED, PASSED, Manifest, Running, check_fit, read_manifest
from edge_claid.runners.onnx_runner import OnnxRunner
from edge_claid.runners.tensorrt_api import Flavour, flavour
from edge_claid.runners.tensorrt_runner import EngineDevice, TensorrtRunner

log = logging.getLogger("edge_claid.engines")


@dataclass(frozen=True)
class Wanted:
    """Which engine: of this float32 network, by this recipe, at this precision, on this device by this library."""

    network: NetworkFile
    recipe: Recipe
    precision: str
    device: EngineDevice
    library: Flavour
    settings: Settings
    calibration: Path | None = None
    cache_dir: Path | None = None


@contextlib.contextmanager
def open_engine(wanted: Wanted, *, graph: bool = False) -> Iterator[TensorrtRunner]:
    """The runner of an engine that is built, fits and has passed the acceptance test; to open in the device's block.

    An engine that was built where it could not run is tried now, against float32 on ONNX Runtime, which takes seconds
    once. graph: see TensorrtRunner. Raises EngineError where there is none that fits, naming what it was built with,
    AccuracyError where it fails the test.
    """
    with open_built(wanted, *find_engine(wanted), graph=graph) as runner:
        yield runner


@contextlib.contextmanager
def open_built(wanted: Wanted, folder: Path, manifest: Manifest, *, graph: bool = False) -> Iterator[TensorrtRunner]:
    """As ``open_engine``, of the engine in this folder."""
    if manifest.verification["status"] == FAILED:
        raise _refused(manifest)
    with TensorrtRunner(folder, wanted.device, wanted.library, graph=graph) as runner:
        if manifest.verification["status"] == NOT_VERIFIED:
            _verify(wanted, folder, manifest, runner)
        yield runner


def find_engine(wanted: Wanted) -> tuple[Path, Manifest]:
    """The folder and manifest of the engine. Raises EngineError where there is none that fits here."""
    library, name = wanted.library, wanted.network.name
    running = Running(library.name, library.version, library.cuda, wanted.device.arch)
    graphs = [graph_id(wanted.network.source_sha256, wanted.recipe, wanted.precision, wider) for wider in (False, True)]
    found, others = cache.matching(name, wanted.precision, graphs, running, wanted.cache_dir)
    if found is not None and found.manifest is not None:
        return found.folder, found.manifest
    for other in others:
        if other.manifest is not None:
            check_fit(other.manifest, running)
            raise EngineError(f"the engine of {name} is of another recipe or network: run `{other.manifest.rebuild}`")
    raise EngineError(
        f"there is no engine of {name} at {wanted.precision}: run `edge-claid build-engines --model {name} "
        f"--precision {wanted.precision}`"
    )


def without_normalisation(network: NetworkFile) -> NetworkFile:
    """The network as who prepares its input must see it where the engine normalises: pixels of 0 to 255 as they are."""
    return replace(network, mean=np.zeros(3, np.float32), std=np.full(3, 1.0 / 255.0, np.float32))


def try_runner(wanted: Wanted, runner: TensorrtRunner) -> Report:
    """The engine against float32 on ONNX Runtime, on the calibration pictures."""
    paths = pictures_of(wanted.calibration)
    pictures = seen_by(paths, wanted.network, wanted.recipe, wanted.settings.networks)
    with OnnxRunner(wanted.network.path) as reference:
        run = float32_run(reference, wanted.network, wanted.recipe)
        return compare(wanted.network, wanted.recipe, wanted.settings, pictures, run, runner.run_all)


def try_engine(order: Order) -> TryEngine | None:
    """How a freshly built engine is tried on the GPU at hand; None where it is built for others.

    Raises MachineError where none could be tried, which is known before minutes are spent on building one.
    """
    if not order.here:
        return None
    # Imported here: PyCUDA is not where nothing runs on a GPU.
    from edge_claid.ops.cuda.pycuda_device import PycudaDevice

    PycudaDevice(cache_dir=order.cache_dir)

    def on_gpu(folder: Path, manifest: Manifest) -> Report:
        cache.rewrite_manifest(folder, manifest)
        with PycudaDevice(cache_dir=order.cache_dir) as device, TensorrtRunner(folder, device, order.library) as runner:
            asked = Wanted(
                order.network, order.recipe, order.precision, device, order.library, order.settings, order.calibration
            )
            return try_runner(asked, runner)

    return on_gpu


def verify_on_gpu(folder: Path, settings: Settings, cache_dir: Path | None = None) -> Report:
    """Try an engine of the cache on the GPU at hand, whatever its manifest says, and put the outcome there.

    Raises AccuracyError where it fails, EngineError where it does not fit, MachineError.
    """
    from edge_claid.ops.cuda.pycuda_device import PycudaDevice

    manifest = read_manifest(folder)
    network = open_network(manifest.network, layer=manifest.layer, cache_dir=cache_dir)
    library = flavour(manifest.flavour)
    with PycudaDevice(cache_dir=cache_dir) as device, TensorrtRunner(folder, device, library) as runner:
        wanted = Wanted(network, recipe(manifest.network), manifest.precision, device, library, settings)
        return _verify(wanted, folder, manifest, runner)


def _verify(wanted: Wanted, folder: Path, manifest: Manifest, runner: TensorrtRunner) -> Report:
    log.info("trying the engine of %s on this GPU against float32", manifest.network)
    report = try_runner(wanted, runner)
    status = FAILED if report.failures else PASSED
    told = manifest.verification | {"status": status, "engine": report.as_json(), "failures": list(report.failures)}
    tried = manifest.with_verification(told)
    try:
        cache.rewrite_manifest(folder, tried)
    except StorageError as error:
        log.warning("%s: the engine will be tried again at its next use", error)
    if report.failures:
        raise _refused(tried)
    return report


def _refused(manifest: Manifest) -> AccuracyError:
    failures = "; ".join(manifest.verification["failures"])
    wider = f"edge-claid build-engines --model {manifest.network} --precision fp32"
    return AccuracyError(f"the engine of {manifest.network} fails the acceptance test ({failures}): run `{wider}`")
