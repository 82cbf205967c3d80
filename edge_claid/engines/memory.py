"""Memory of this machine, asked before a build and watched during it."""

from __future__ import annotations

from pathlib import Path

from edge_claid.errors import BuildError

_MB = 1 << 20


class OutOfMemoryError(BuildError):
    """A build had, or would have, less memory than it needs."""


# Peaks of TensorRT for RTX 1.7 building the embedded networks were 227 to 570 MB for 9 to 54 MB of weights: a floor
# and a multiple of the graph above all of them.
_FLOOR, _TIMES_GRAPH = 250 * _MB, 7
# A CUDA context, TensorRT's kernels and cuBLAS take this much beside the builder's own memory.
_ON_GPU = 900 * _MB
# Left to the rest of the machine: below it a build is ended rather than the camera or the desktop.
RESERVE = 200 * _MB


def needed_bytes(onnx_bytes: int, on_gpu: bool, workspace_bytes: int = 0) -> int:
    """Memory that a build is expected to need, about."""
    needed = _FLOOR + _TIMES_GRAPH * onnx_bytes
    return needed + _ON_GPU + workspace_bytes if on_gpu else needed


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that can be had without swapping, or None where the system does not say."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def resident_bytes(process: int, proc: Path = Path("/proc")) -> int | None:
    """Memory a process holds, or None where the system does not say."""
    try:
        for line in (proc / str(process) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def largest_processes(count: int = 3, proc: Path = Path("/proc")) -> list[tuple[str, int]]:
    """Names and bytes of the processes that hold most memory: what to close when it does not suffice."""
    found = []
    for folder in proc.glob("[0-9]*"):
        held = resident_bytes(int(folder.name), proc)
        try:
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if held:
            found.append((name, held))
    return sorted(found, key=lambda entry: -entry[1])[:count]


def check_room(name: str, needed: int, limit: int | None = None) -> int:
    """Bytes a build may hold. limit: the user's; else what is available, less a reserve.

    Raises OutOfMemoryError where less than `needed` is there.
    """
    available = available_bytes()
    allowed = limit if limit is not None else None if available is None else available - RESERVE
    if allowed is None:
        return 1 << 62
    if allowed < needed:
        megabytes = -(-needed // _MB)
        about = f"building {name} needs about {megabytes:,} MB"
        if limit is not None:
            raise OutOfMemoryError(f"{about}, {limit // _MB:,} MB are allowed: give --memory {megabytes}")
        raise OutOfMemoryError(f"{about}, {max(allowed, 0) // _MB:,} MB are free: {what_to_close()}")
    return allowed


def what_to_close() -> str:
    """Advice for a machine that is short of memory."""
    largest = ", ".join(f"{name} {held // _MB:,} MB" for name, held in largest_processes())
    return f"close what else runs ({largest}), stop the desktop (sudo systemctl isolate multi-user.target) or add swap"
