"""The one place that knows how TensorRT 10, TensorRT 11 and TensorRT for RTX differ.

What a library can do is asked of it (``hasattr``), never concluded from its version.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_claid.errors import BuildError, MachineError, UsageError
from edge_claid.runners.cuda_driver import runtime_cuda

# Modules of a flavour, the first that can be imported is taken, and how it is installed.
_MODULES = {
    "tensorrt": (("tensorrt",), "it comes with JetPack, or from NVIDIA's packages; make the virtual environment with "
                 "--system-site-packages"),
    "tensorrt-rtx": (("tensorrt_rtx", "tensorrt_rtx_bindings"), "pip install 'edge-claid[tensorrt-rtx]'"),
}  # fmt: skip
FLAVOURS = tuple(_MODULES)
# TensorRT for RTX takes no other; a Jetson and data-centre cards take TensorRT.
RTX_TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")


@dataclass(frozen=True)
class Flavour:
    """A TensorRT library that can be imported. cuda: version of CUDA it stands on, "" where unknown."""

    name: str
    module: Any
    version: str
    cuda: str

    def logger(self, told: Callable[[str, str], None]) -> Any:
        """A logger that hands on (severity, message): "error", "warning" or "info"."""
        severities = self.module.ILogger.Severity
        names = {severities.INTERNAL_ERROR: "error", severities.ERROR: "error", severities.WARNING: "warning"}

        class Told(self.module.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self, module: Any) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity != severities.VERBOSE:
                    told(names.get(severity, "info"), message)

        return Told(self.module)

    def builder(self, logger: Any, why: Callable[[], str]) -> Any:
        """A builder. why: the reason that the logger was told, in brackets. Raises MachineError, see ``runtime``."""
        return self._started(self.module.Builder, logger, why)

    def runtime(self, logger: Any, why: Callable[[], str]) -> Any:
        """A runtime. Raises MachineError where the library does not start: it finds no GPU, or a driver too old."""
        return self._started(self.module.Runtime, logger, why)

    def _started(self, kind: Callable[[Any], Any], logger: Any, why: Callable[[], str]) -> Any:
        try:
            return kind(logger)
        except TypeError as error:  # what the bindings make of a library that gives nothing
            raise MachineError(
                f"{self.name} {self.version} does not start here{why()}: run `edge-claid doctor`"
            ) from error

    def network(self, builder: Any) -> Any:
        """An empty network whose precisions are those of the graph."""
        flags = self.module.NetworkDefinitionCreationFlag
        bits = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
        return builder.create_network(bits)

    def set_targets(self, config: Any, targets: Sequence[str]) -> None:
        """Build for these GPUs instead of the one at hand; none: for the one at hand. Raises UsageError."""
        if not targets:
            return
        if not hasattr(config, "num_compute_capabilities"):
            raise UsageError(f"{self.name} builds for the GPU it runs on only: leave --target out, or use tensorrt-rtx")
        known = self.module.ComputeCapability
        wanted = [getattr(known, target.replace("_", "").upper(), None) for target in targets]
        if None in wanted:
            raise UsageError(f"{self.name} {self.version} does not build for {targets[wanted.index(None)]}")
        config.num_compute_capabilities = len(wanted)
        for index, capability in enumerate(wanted):
            if not config.set_compute_capability(capability, index):
                raise UsageError(f"{self.name} {self.version} does not build for {targets[index]}")

    def set_limits(self, config: Any, workspace_bytes: int) -> None:
        """Scratch memory that kernels may plan with; float32 is float32, not rounded to TF32."""
        config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, workspace_bytes)
        if hasattr(self.module.BuilderFlag, "TF32"):
            config.clear_flag(self.module.BuilderFlag.TF32)

    def use_timing_cache(self, config: Any, known: bytes) -> Any:
        """Start from the timings of an earlier build; the cache, or None where the library has no use for one."""
        if self.name == "tensorrt-rtx":  # takes it and ignores it
            return None
        cache = config.create_timing_cache(known)
        # Timings of another GPU or version are refused by the library, which then measures anew.
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        return cache

    def use_progress(self, config: Any, monitor: Callable[[str, str | None, int, int], bool]) -> Any:
        """Have progress told: phase, the phase it is part of, step, steps; False stops the build. None: not offered.

        The monitor that is returned must live as long as the build.
        """
        if not hasattr(self.module, "IProgressMonitor"):
            return None

        class Told(self.module.IProgressMonitor):  # type: ignore[name-defined,misc]
            def __init__(self, module: Any) -> None:
                module.IProgressMonitor.__init__(self)
                self.steps: dict[str, tuple[str | None, int]] = {}

            def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
                self.steps[phase] = (parent, steps)
                monitor(phase, parent, 0, steps)

            def step_complete(self, phase: str, step: int) -> bool:
                parent, steps = self.steps.get(phase, (None, step + 1))
                return monitor(phase, parent, step + 1, steps)

            def phase_finish(self, phase: str) -> None:
                parent, steps = self.steps.get(phase, (None, 0))
                monitor(phase, parent, steps, steps)

        told = Told(self.module)
        config.progress_monitor = told
        return told

    def serialised(self, builder: Any, network: Any, config: Any) -> bytes:
        """The engine. Raises BuildError where the library gives none."""
        made = builder.build_serialized_network(network, config)
        if made is None:
            raise BuildError("the library gave no engine")
        return bytes(memoryview(made))

    @property
    def captures_itself(self) -> bool:
        """Whether the library records launches as CUDA graphs by itself, so that nobody else should."""
        return hasattr(self.module, "CudaGraphStrategy")

    def context(self, engine: Any, *, graph: bool) -> Any:
        """An execution context, or None where there is no memory. graph: record launches, where the library can."""
        if not (graph and self.captures_itself):
            return engine.create_execution_context()
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = self.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return engine.create_execution_context(config)


def flavour(name: str) -> Flavour:
    """A flavour by name. Raises UsageError for an unknown name, MachineError where it cannot be imported."""
    if name not in _MODULES:
        raise UsageError(f"no TensorRT is called {name!r}: choose {' or '.join(FLAVOURS)}")
    modules, install = _MODULES[name]
    reasons = []
    for module_name in modules:
        try:
            module = importlib.import_module(module_name)
            version = str(module.__version__)
        except (ImportError, OSError, AttributeError, RuntimeError) as error:
            # What the bindings make of a Ctrl-C while they are loaded.
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise error.__cause__ from None
            reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
            continue
        return Flavour(name, module, version, _cuda_of(name))
    raise MachineError(f"{name} cannot be loaded ({'; '.join(reasons)}): {install}")


def _cuda_of(name: str) -> str:
    """RTX's packages carry the CUDA they were built for in their name; TensorRT uses the system's."""
    if name == "tensorrt":
        return runtime_cuda()
    for major in ("13", "12"):
        try:
            importlib.metadata.version(f"tensorrt-rtx-cu{major}-bindings")
        except importlib.metadata.PackageNotFoundError:
            continue
        return major
    return ""
