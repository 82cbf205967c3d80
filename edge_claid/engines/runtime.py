"""What runs the networks on this machine: engines of its GPU, or ONNX Runtime; chosen here and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from edge_claid.config import RUNTIMES, NetworkSettings, Settings
from edge_claid.errors import AccuracyError, EngineError, MachineError, UsageError
from edge_claid.models import NetworkFile, open_network
from edge_claid.runners.cuda_driver import Driver, driver
from edge_claid.runners.onnx_runner import OnnxRunner
from edge_claid.runners.runner import Runner

if TYPE_CHECKING:
    from edge_claid.engines.upkeep import State

log = logging.getLogger("edge_claid.engines")

_PROVIDERS = {
    "onnx": ("CPUExecutionProvider",),
    "onnx-cuda": ("CUDAExecutionProvider",),
    "onnx-tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
# Pictures worked on at once beside a GPU: enough to decode, decompose and pool while it computes.
_BESIDE_A_GPU = 4


@dataclass(frozen=True)
class Choice:
    """What is to run the networks. name: of RUNTIMES, but "auto".

    engines: of "tensorrt", one a network, that of the ViT first. given_up: why "auto" takes no engines though there is
    a GPU, or "". asked: whether the runtime was named, so that nothing else may take its place.
    """

    name: str
    engines: tuple[State, ...] = ()
    given_up: str = ""
    asked: bool = True

    @property
    def told(self) -> str:
        """For a user, in a few words."""
        if self.name != "tensorrt":
            where = {"onnx": "the CPU", "onnx-cuda": "CUDA", "onnx-tensorrt": "TensorRT and CUDA"}[self.name]
            return f"ONNX Runtime {onnxruntime.__version__} on {where}"
        known = [state.entry.manifest for state in self.engines if state.entry.manifest]
        return " and ".join(dict.fromkeys(f"{one.flavour} {one.version} at {one.precision}" for one in known))


@dataclass(frozen=True)
class Networks:
    """Both networks, running; each may be called by several threads at once.

    vit_file, convolutional_file: as who prepares their input must see them; an engine normalises by itself.
    workers: pictures to work on at once, at most. told: what runs them. device: that the engines are on, or None.
    """

    vit: Runner
    convolutional: Runner
    vit_file: NetworkFile
    convolutional_file: NetworkFile
    workers: int
    told: str
    device: Any = None


def choose_runtime(settings: NetworkSettings, cache_dir: Path | None = None, here: Driver | None = None) -> Choice:
    """What runs these networks here. Nothing is loaded. here: the driver, None asks it.

    Raises UsageError for an unknown runtime; where engines were asked for, MachineError without a GPU and EngineError
    where a network has no engine that runs here.
    """
    if settings.runtime not in RUNTIMES:
        raise UsageError(f"no runtime is called {settings.runtime!r}: choose {', '.join(RUNTIMES)}")
    if settings.runtime in _PROVIDERS:
        return Choice(settings.runtime)
    asked = settings.runtime == "tensorrt"
    found = driver() if here is None else here
    if not found.gpus:
        if asked:
            raise MachineError(f"{found.problem}: engines cannot run here, take the runtime auto or onnx")
        return Choice("onnx", asked=False)
    try:
        return Choice("tensorrt", _engines(settings, cache_dir, found), asked=asked)
    except EngineError as error:
        if asked:
            raise
        return Choice("onnx", given_up=str(error), asked=False)


def providers_of(choice: Choice) -> tuple[str, ...]:
    """ONNX Runtime's execution providers that a choice needs; none for engines."""
    return _PROVIDERS.get(choice.name, ())


def network_files(
    settings: NetworkSettings, choice: Choice, cache_dir: Path | None = None
) -> tuple[NetworkFile, NetworkFile]:
    """The files of both networks for what was chosen; dynamic int8 is for the CPU only. Raises as ``open_network``."""
    variant = settings.vit_variant if choice.name == "onnx" else "fp32"
    vit = open_network(settings.vit, variant=variant, layer=settings.token_layer, cache_dir=cache_dir)
    return vit, open_network(settings.descriptor, cache_dir=cache_dir)


@contextlib.contextmanager
def open_networks(
    settings: Settings,
    files: tuple[NetworkFile, NetworkFile],
    choice: Choice,
    threads: int,
    cache_dir: Path | None = None,
    open_device: Callable[[Path | None], AbstractContextManager[Any]] | None = None,
) -> Iterator[Networks]:
    """Both networks, running as chosen. files: those of ``network_files``. threads: of the CPU, a picture each.

    Engines that never ran are tried first. Where "auto" chose engines and they do not open or fail, that is told and
    ONNX Runtime on the CPU takes their place; where they were named it is the error: MachineError, EngineError,
    AccuracyError. open_device: gives the GPU; None: by PyCUDA.
    """
    with contextlib.ExitStack() as stack:
        if choice.given_up:
            log.warning("%s; until then the networks run on the CPU", choice.given_up)
        if choice.name != "tensorrt":
            opened = stack.enter_context(_by_onnxruntime(files, choice, threads))
        else:
            try:
                opened = stack.enter_context(_by_engines(settings, files, choice, threads, cache_dir, open_device))
            except (MachineError, EngineError, AccuracyError) as error:
                if choice.asked:
                    raise
                log.warning("%s; until then the networks run on the CPU", error)
                instead = replace(choice, name="onnx", engines=())
                on_cpu = network_files(settings.networks, instead, cache_dir)
                opened = stack.enter_context(_by_onnxruntime(on_cpu, instead, threads))
        log.info("the networks are run by %s", opened.told)
        yield opened


def _engines(settings: NetworkSettings, cache_dir: Path | None, here: Driver) -> tuple[State, ...]:
    from edge_claid.engines.upkeep import states

    # Engines run on the first GPU.
    known = states(cache_dir, replace(here, gpus=here.gpus[:1]))
    return tuple(_engine_of(name, layer, settings.engine_precision, known)
                 for name, layer in ((settings.vit, settings.token_layer), (settings.descriptor, None)))  # fmt: skip


def _engine_of(name: str, layer: int | None, precision: str, known: list[State]) -> State:
    from edge_claid.engines.recipe import recipe
    from edge_claid.engines.upkeep import RUNS
    from edge_claid.runners.engine_file import FAILED, PASSED

    with contextlib.suppress(UsageError):  # a network of one's own may have no recipe, and then has no engine
        # A precision that a network does not have is no wish for it.
        precision = precision if precision in recipe(name).precisions else ""
    rebuild = f"edge-claid build-engines --model {name}" + (f" --precision {precision}" if precision else "")
    usable, reasons = [], []
    for state in known:
        manifest = state.entry.manifest
        if manifest is None or manifest.network != name or (layer is not None and manifest.layer != layer):
            continue
        if precision not in ("", manifest.precision):
            continue
        if state.state == RUNS and manifest.verification["status"] != FAILED:
            order = recipe(name).precisions.index(manifest.precision)
            usable.append((order, manifest.verification["status"] != PASSED, state.entry.folder.name, state))
        else:
            failed = "; ".join(manifest.verification.get("failures", ()))
            reasons.append(state.reason or f"it failed the acceptance test ({failed})")
    if usable:
        return min(usable, key=lambda entry: entry[:3])[3]
    if reasons:
        raise EngineError(f"no engine of {name} can be used ({reasons[0]}): run `{rebuild}`")
    raise EngineError(f"there is no engine of {name} for this GPU: run `{rebuild}`")


@contextlib.contextmanager
def _by_onnxruntime(files: tuple[NetworkFile, NetworkFile], choice: Choice, threads: int) -> Iterator[Networks]:
    providers = _PROVIDERS[choice.name]
    with contextlib.ExitStack() as stack:
        vit, convolutional = (
            stack.enter_context(OnnxRunner(file.path, threads=1, providers=providers)) for file in files
        )
        workers = threads if choice.name == "onnx" else min(threads, _BESIDE_A_GPU)
        yield Networks(vit, convolutional, *files, workers, choice.told)


@contextlib.contextmanager
def _by_engines(
    settings: Settings,
    files: tuple[NetworkFile, NetworkFile],
    choice: Choice,
    threads: int,
    cache_dir: Path | None,
    open_device: Callable[[Path | None], AbstractContextManager[Any]] | None,
) -> Iterator[Networks]:
    from edge_claid.engines.opening import Wanted, open_built, without_normalisation
    from edge_claid.engines.recipe import recipe
    from edge_claid.runners.tensorrt_api import flavour

    lock = threading.Lock()
    with contextlib.ExitStack() as stack:
        device = stack.enter_context((open_device or _gpu)(cache_dir))
        runners: list[SharedEngine] = []
        for file, state in zip(files, choice.engines, strict=True):
            manifest, known = state.entry.manifest, recipe(file.name)
            assert manifest is not None
            library = flavour(manifest.flavour)
            wanted = Wanted(file, known, manifest.precision, device, library, settings, cache_dir=cache_dir)
            engine = stack.enter_context(open_built(wanted, state.entry.folder, manifest))
            runners.append(stack.enter_context(SharedEngine(engine, device, lock, file, cache_dir)))
        vit, convolutional = runners
        seen = without_normalisation(files[0]), without_normalisation(files[1])
        yield Networks(
            vit, convolutional, *seen, min(threads, _BESIDE_A_GPU), f"{choice.told} on {device.arch}", device
        )


def _gpu(cache_dir: Path | None) -> AbstractContextManager[Any]:
    # Imported here: PyCUDA is not where nothing runs on a GPU.
    from edge_claid.ops.cuda.pycuda_device import PycudaDevice

    return PycudaDevice(cache_dir=cache_dir)


class SharedEngine:
    """An engine that several threads may call, one of all engines of a device at a time.

    A picture of a shape that the engine does not take is run by ONNX Runtime on the CPU at float32, which is told once:
    the answer is right, it takes longer. engine: opened. file: the network's float32.
    """

    def __init__(
        self, engine: Any, device: Any, lock: threading.Lock, file: NetworkFile, cache_dir: Path | None
    ) -> None:
        self._engine, self._device, self._lock = engine, device, lock
        self._file, self._cache_dir = file, cache_dir
        self._others = contextlib.ExitStack()
        self._on_cpu: OnnxRunner | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> SharedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self._others.close()
        self._on_cpu = None

    @property
    def engine(self) -> Any:
        """For who holds ``lock`` and has its arrays on the device."""
        return self._engine

    @property
    def lock(self) -> threading.Lock:
        """Held while any engine of the device runs."""
        return self._lock

    def run(self, batch: np.ndarray) -> np.ndarray:
        """See Runner.run, of pixels of 0 to 255."""
        return self.run_all(batch)[0]

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """See Runner.run_all, of pixels of 0 to 255."""
        if not self._engine.takes(batch.shape):
            return self._runner_of_other_shapes(batch.shape).run_all(batch)
        with self._lock, self._device.current():
            outputs: list[np.ndarray] = self._engine.run_all(batch)
        return outputs

    def _runner_of_other_shapes(self, shape: tuple[int, ...]) -> OnnxRunner:
        from edge_claid.engines.recipe import recipe
        from edge_claid.engines.typed import typed_file

        with self._opening:
            if self._on_cpu is None:
                log.warning("a picture of %d x %d is more than the engine of %s takes: such run on the CPU",
                            shape[3], shape[2], self._file.name)  # fmt: skip
                path = typed_file(self._file, recipe(self._file.name), "fp32", cache_dir=self._cache_dir)
                self._on_cpu = self._others.enter_context(OnnxRunner(path, threads=1))
            return self._on_cpu
