"""What PyCUDA does not offer, by the driver's own calls: launches on a stream recorded once and replayed."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from ctypes import byref, c_ulonglong, c_void_p
from functools import cache
from typing import Any

from edge_claid.errors import MachineError

LIBRARY = "libcuda.so.1"
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE: what other threads do meanwhile is no error


class CudaGraph:
    """Recorded launches. Whoever recorded it closes it."""

    def __init__(self, executable: c_void_p, library: Any) -> None:
        self._executable, self._library = executable, library

    @classmethod
    @contextlib.contextmanager
    def recording(cls, stream: int, library: Any = None) -> Iterator[CudaGraph]:
        """Record what the block starts on the stream, and start it once. Nothing in the block may allocate.

        stream: the CUDA handle. Raises MachineError where the driver cannot record it.
        """
        cuda = _driver() if library is None else library
        executable, graph = c_void_p(), c_void_p()
        made = cls(executable, cuda)
        _checked(cuda.cuStreamBeginCapture_v2(c_void_p(stream), _THREAD_LOCAL), "recording cannot begin")
        try:
            yield made
        except BaseException:
            cuda.cuStreamEndCapture(c_void_p(stream), byref(graph))
            if graph:
                cuda.cuGraphDestroy(graph)
            raise
        ended = cuda.cuStreamEndCapture(c_void_p(stream), byref(graph))
        _checked(ended, "what was started cannot be recorded")
        try:
            made_one = cuda.cuGraphInstantiateWithFlags(byref(executable), graph, c_ulonglong(0))
            _checked(made_one, "the recording cannot be replayed")
        finally:
            cuda.cuGraphDestroy(graph)
        made.launch(stream)

    def launch(self, stream: int) -> None:
        """Start everything that was recorded."""
        _checked(self._library.cuGraphLaunch(self._executable, c_void_p(stream)), "the recording failed")

    def close(self) -> None:
        """Give it back; more than once does no harm."""
        if self._executable:
            self._library.cuGraphExecDestroy(self._executable)
            self._executable.value = None


def pop_context() -> None:
    """Take the top context off the calling thread's stack, as the driver keeps it."""
    context = c_void_p()
    _driver().cuCtxPopCurrent_v2(byref(context))


@cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise MachineError(f"there is no NVIDIA driver on this machine (no {LIBRARY})") from error


def _checked(code: int, what: str) -> None:
    if code:
        raise MachineError(f"CUDA graph: {what} (CUDA error {code}); run without it")
