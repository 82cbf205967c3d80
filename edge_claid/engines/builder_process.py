"""The process that builds one engine: it may run out of memory or be killed without taking anything with it.

Reads one JSON request from stdin, writes JSON lines to stdout: {"phase","parent","step","steps"} as the build goes on,
and last {"done": true} or {"failed": kind, "reason": text}. Started by ``engines.build`` only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_claid.errors import BuildError, EdgeClaidError
from edge_claid.models.cache import storage_errors
from edge_claid.runners.tensorrt_api import Flavour, flavour

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Request:
    """onnx, engine, timing_cache: paths. targets: GPUs ("sm_86"), none for the one at hand. shapes: see Recipe."""

    flavour: str
    onnx: str
    engine: str
    timing_cache: str
    targets: list[str]
    shapes: dict[str, list[int]]
    channels_last: bool
    workspace_bytes: int

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    """Build what stdin asks for."""
    _be_expendable()
    request = Request(**json.loads(sys.stdin.read()))
    # The library prints to stdout now and then; our lines have it for themselves.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")

    try:
        build(request, tell)
        tell({"done": True})
    except EdgeClaidError as error:
        tell({"failed": type(error).__name__, "reason": str(error)})
    except MemoryError:
        tell({"failed": "memory", "reason": "out of memory"})


def build(request: Request, tell: Callable[[dict[str, Any]], None]) -> None:
    """Build one engine and write it.

    Raises BuildError with the library's own reason, UsageError, MachineError, StorageError.
    """
    library = flavour(request.flavour)
    complaints: list[str] = []

    def told(severity: str, message: str) -> None:
        if severity == "error":
            complaints.append(message)

    def progress(phase: str, parent: str | None, step: int, steps: int) -> bool:
        tell({"phase": phase, "parent": parent, "step": step, "steps": steps})
        return True

    logger = library.logger(told)
    builder = library.builder(logger, lambda: _bracketed(complaints))
    network = library.network(builder)
    parser = _parsed(library, network, logger, Path(request.onnx), complaints)
    config = builder.create_builder_config()
    library.set_targets(config, request.targets)
    library.set_limits(config, request.workspace_bytes)
    if config.add_optimization_profile(_profile(builder, request)) < 0:
        raise BuildError(f"the graph does not take the shapes {request.shapes}{_bracketed(complaints)}")
    timings = library.use_timing_cache(config, _read(request.timing_cache))
    complaints.clear()  # of timings that were of no use
    monitor = library.use_progress(config, progress)
    try:
        engine = library.serialised(builder, network, config)
    except BuildError as error:
        raise BuildError(_reason(complaints) or str(error)) from error
    finally:
        del monitor, parser
    with storage_errors(Path(request.engine)):
        Path(request.engine).write_bytes(engine)
        if timings is not None:
            Path(request.timing_cache).write_bytes(bytes(memoryview(timings.serialize())))


def _parsed(library: Flavour, network: Any, logger: Any, path: Path, complaints: list[str]) -> Any:
    """The parser, which keeps the weights that the network points to."""
    parser = library.module.OnnxParser(network, logger)
    if not parser.parse(path.read_bytes()):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = "; ".join(_parse_error(error) for error in errors[:3]) or _reason(complaints)
        raise BuildError(f"the ONNX cannot be used: {told}")
    return parser


def _parse_error(error: Any) -> str:
    where = ""
    with contextlib.suppress(AttributeError):
        operator, name = error.node_operator(), error.node_name()
        where = f" (operator {operator}{f', node {name}' if name else ''})" if operator else ""
    return " ".join(str(error.desc()).split())[:200] + where


def _profile(builder: Any, request: Request) -> Any:
    profile = builder.create_optimization_profile()
    smallest, usual, largest = (
        (batch, height, width, 3) if request.channels_last else (batch, 3, height, width)
        for batch, height, width in (request.shapes[name] for name in ("smallest", "usual", "largest"))
    )
    profile.set_shape("image", smallest, usual, largest)
    return profile


def _reason(complaints: list[str]) -> str:
    return " ".join(complaints[0].split())[:300] if complaints else ""


def _bracketed(complaints: list[str]) -> str:
    return f" ({_reason(complaints)})" if complaints else ""


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _be_expendable() -> None:
    """Die with the parent, and first when memory runs out."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
