"""Which TensorRT builds for which GPU on this machine, or why ONNX Runtime on the CPU serves instead."""

from __future__ import annotations

from dataclasses import dataclass

from edge_claid.errors import MachineError, UsageError
from edge_claid.runners.cuda_driver import Driver, driver
from edge_claid.runners.tensorrt_api import FLAVOURS, RTX_TARGETS, Flavour, flavour

BACKENDS = ("auto", *FLAVOURS)


@dataclass(frozen=True)
class Choice:
    """library: None where there is nothing to build for, and then ``reason`` says why. targets: GPUs, as "sm_87".

    here: the target is the GPU at hand, so engines can be tried on it.
    """

    library: Flavour | None
    targets: tuple[str, ...] = ()
    here: bool = False
    reason: str = ""


def choose(backend: str, targets: tuple[str, ...] = (), asked: Driver | None = None) -> Choice:
    """What builds what. backend: of BACKENDS. targets: none for the GPU at hand. asked: the driver, None asks it.

    Raises UsageError for an unknown backend or targets that it cannot build for, MachineError where a backend that was
    named cannot be loaded or has no GPU.
    """
    if backend not in BACKENDS:
        raise UsageError(f"no backend is called {backend!r}: choose {', '.join(BACKENDS)}")
    if targets:
        return _for_others(backend, targets)
    here = driver() if asked is None else asked
    if not here.gpus:
        return _without_gpu(backend, here)
    sm = here.gpus[0].sm
    if backend != "auto":
        library = flavour(backend)
        if backend == "tensorrt-rtx" and sm not in RTX_TARGETS:
            raise MachineError(f"TensorRT for RTX does not run on {here.gpus[0].name} ({sm}): take --backend tensorrt")
        return Choice(library, (sm,), True)
    reasons = []
    for name in FLAVOURS:
        if name == "tensorrt-rtx" and sm not in RTX_TARGETS:
            continue
        try:
            return Choice(flavour(name), (sm,), True)
        except MachineError as error:
            reasons.append(str(error))
    raise MachineError(f"{here.gpus[0].name} ({sm}) is here, but no TensorRT: {'; '.join(reasons)}")


def _for_others(backend: str, targets: tuple[str, ...]) -> Choice:
    if backend == "tensorrt":
        raise UsageError("TensorRT builds for the GPU it runs on only: --target needs --backend tensorrt-rtx")
    unknown = [target for target in targets if target not in RTX_TARGETS]
    if unknown:
        raise UsageError(
            f"TensorRT for RTX does not build for {', '.join(unknown)}: choose of {', '.join(RTX_TARGETS)}; "
            "for a Jetson run build-engines on the Jetson"
        )
    return Choice(flavour("tensorrt-rtx"), targets)


def _without_gpu(backend: str, here: Driver) -> Choice:
    if backend != "auto":
        raise MachineError(
            f"{here.problem}: {backend} has nothing to build for. Name the GPUs of another machine by --target "
            "(TensorRT for RTX), or leave it: ONNX Runtime on the CPU serves"
        )
    return Choice(
        None,
        reason=f"{here.problem}: ONNX Runtime on the CPU serves, there is nothing to build. "
        "For RTX cards of other machines: --backend tensorrt-rtx --target sm_86,sm_89,sm_120",
    )
