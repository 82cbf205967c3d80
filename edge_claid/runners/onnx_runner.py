"""ONNX Runtime behind the Runner protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime

from edge_claid.errors import MachineError, UsageError

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : (?:\w+ : )?(?:Load model from .{1,4096}? failed:\s*)?")


class OnnxRunner:
    """Runs one ONNX file: one float32 input (B, 3, H, W), any of its sizes free or fixed.

    path: the ONNX file. threads: how many it computes on; None for one per core of this process.
    providers: ONNX Runtime's execution providers, in order of preference; none is left out silently.
    Several threads may call ``run`` at once.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"a runner needs at least one thread, not {threads}")
        self._path = Path(path)
        self._threads = threads or usable_cores()
        self._providers = list(providers)
        self._session: onnxruntime.InferenceSession | None = None
        self._sizes: list[int | None] = []
        self._input = ""

    def __enter__(self) -> OnnxRunner:
        missing = [name for name in self._providers if name not in onnxruntime.get_available_providers()]
        if missing or not self._providers:
            raise MachineError(
                f"this ONNX Runtime has no {' and no '.join(missing) or 'provider to run on'}: choose of "
                f"{', '.join(onnxruntime.get_available_providers())}, or install the onnxruntime that brings it"
            )
        if not self._path.is_file():
            raise MachineError(f"no network file {self._path}: run `edge-claid models fetch`")
        self._session = self._open()
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            self._session = None
            raise MachineError(f"{self._path} is not a network with one float32 image input")
        self._input = inputs[0].name
        self._sizes = [size if isinstance(size, int) else None for size in inputs[0].shape]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def run(self, batch: np.ndarray) -> np.ndarray:
        """See Runner.run. Raises UsageError for a batch that the network cannot take."""
        return self.run_all(batch)[0]

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """See Runner.run_all. Raises UsageError for a batch that the network cannot take."""
        if self._session is None:
            raise RuntimeError("OnnxRunner.run outside its with block")
        if batch.dtype != np.float32 or batch.ndim != 4 or 0 in batch.shape:
            raise UsageError(f"a network's input is (B, 3, H, W) float32, not {batch.shape} {batch.dtype}")
        if any(want not in (None, size) for want, size in zip(self._sizes, batch.shape, strict=True)):
            raise UsageError(f"{self._path.name} takes an input of {self._sizes} (None: any), not {list(batch.shape)}")
        try:
            outputs: list[np.ndarray] = self._session.run(None, {self._input: np.ascontiguousarray(batch)})
        except _RUNTIME_ERRORS as error:
            raise UsageError(f"{self._path.name} failed on an input of {batch.shape}: {_first_line(error)}") from error
        return outputs

    def _open(self) -> onnxruntime.InferenceSession:
        try:
            session = self._session_of(fused=True)
        except _RUNTIME_ERRORS as error:
            # Its optimiser takes Q/DQ pairs of fp8 for int8's, and then refuses the graph it made.
            if "float8" not in str(error):
                raise self._not_loaded(error) from error
            try:
                session = self._session_of(fused=False)
            except _RUNTIME_ERRORS as again:
                raise self._not_loaded(again) from again
        # ONNX Runtime goes on with the CPU where a provider is listed but does not start (a driver missing).
        dropped = [name for name in self._providers if name not in session.get_providers()]
        if dropped:
            raise MachineError(f"{' and '.join(dropped)} did not start on this machine: check its driver")
        return session

    def _session_of(self, *, fused: bool) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that wait by spinning take a quarter of the CPU time from decoding and other pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not fused:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.log_severity_level = 4  # errors are raised, not printed
        return onnxruntime.InferenceSession(str(self._path), options, providers=self._providers)

    def _not_loaded(self, error: Exception) -> MachineError:
        return MachineError(
            f"{self._path} cannot be loaded ({_first_line(error)}): delete it and run `edge-claid models fetch`"
        )


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    """What ONNX Runtime says first, without its own numbers and the path, which stand before what is wrong."""
    said = _PREFIX.sub("", str(error).strip()).splitlines()
    return said[0][:200] if said else type(error).__name__


def _runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions, which share no class of their own."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    found = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*found, RuntimeError, ValueError)


_RUNTIME_ERRORS = _runtime_errors()
