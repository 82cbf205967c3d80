"""Kill a network camera at random moments and see whether it is always found again.

    nice python tools/rtsp_kills.py [--kills 500] [--seed 1] [--json]

A GStreamer RTSP server is killed by SIGKILL while frames flow, or anywhere between its own start and the first frame
after it, and started again on its port. Nothing may hang, crash or leak: threads, file descriptors and child processes
of this process are counted after each recovery. Writes benchmarks/results/rtsp_kills.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import av
from rtsp_server import RtspServer, missing

from edge_claid.frames import Patience, Stream, open_stream
from edge_claid.records import TimedFrame

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
# A recovery that takes longer than this counts as a hang, in seconds.
HANG = 60.0


def play(kills: int, seed: int, tell: Any = None) -> dict[str, Any]:
    """Rounds of kills until there were so many; what happened."""
    moments = random.Random(seed)
    server = RtspServer().start()
    done = unrecovered = 0
    recoveries: list[float] = []
    counts: list[dict[str, int]] = []
    began = time.monotonic()
    try:
        with open_stream(server.url, wait=True) as stream:
            read_until_frame(stream)
            while done < kills and not unrecovered:
                read_for(stream, moments.uniform(0.0, 1.0))
                server.kill()
                done += 1
                killed = time.monotonic()
                if done < kills and moments.random() < 0.5:
                    # Once more, while it is being opened anew.
                    server.start()
                    read_for(stream, moments.uniform(0.0, 0.8))
                    server.kill()
                    done += 1
                    killed = time.monotonic()
                read_for(stream, moments.uniform(0.0, 0.3))
                server.start()
                unrecovered += not read_until_frame(stream, since=killed)
                recoveries.append(time.monotonic() - killed)
                counts.append(held())
                if tell is not None and len(counts) % 25 == 0:
                    tell(f"{done} kills, {recoveries[-1]:.1f} s, {counts[-1]}")
    finally:
        server.kill()
    return summary(done, unrecovered, recoveries, counts, time.monotonic() - began)


def read_for(stream: Stream, seconds: float) -> None:
    """Read whatever comes for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stream.read(max(0.0, until - time.monotonic()))


def read_until_frame(stream: Stream, since: float = 0.0) -> bool:
    """Read until a frame comes that was captured after ``since``; False where none comes for too long."""
    until = time.monotonic() + HANG
    while time.monotonic() < until:
        answer = stream.read(1.0)
        if isinstance(answer, TimedFrame) and answer.captured > since:
            return True
    return False


def held() -> dict[str, int]:
    """What this process holds: threads, file descriptors, child processes (dead ones too), resident memory in kB."""
    gc.collect()
    threads = os.listdir("/proc/self/task")
    children = [Path(f"/proc/self/task/{thread}/children").read_text().split() for thread in threads]
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return {
        "threads": len(threads),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "children": sum(map(len, children)),
        "resident_kb": resident,
    }


def summary(
    kills: int, unrecovered: int, recoveries: list[float], counts: list[dict[str, int]], seconds: float
) -> dict[str, Any]:
    """The result as it is stored. Leaks: growth from the first recovery to the last."""
    ordered = sorted(recoveries)
    patience = Patience()
    return {
        "kills": kills,
        "kills_while_reconnecting": kills - len(recoveries),
        "found_again": len(recoveries) - unrecovered,
        "not_found_again": unrecovered,
        "recovery_seconds": {
            "median": round(ordered[len(ordered) // 2], 2),
            "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 2),
            "longest": round(ordered[-1], 2),
        },
        "leaked": {key: counts[-1][key] - counts[0][key] for key in ("threads", "descriptors", "children")},
        "resident_kb": {"first": counts[0]["resident_kb"], "last": counts[-1]["resident_kb"]},
        "retry_seconds": [patience.retry, patience.longest],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    result = play(arguments.kills, arguments.seed, lambda line: print(line, file=sys.stderr, flush=True))
    result |= {
        "seed": arguments.seed,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "pyav": av.__version__,
        "ffmpeg_libavformat": ".".join(map(str, av.library_versions["libavformat"])),
        "date": date.today().isoformat(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "rtsp_kills.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))
    raise SystemExit(1 if result["not_found_again"] or any(result["leaked"].values()) else 0)


if __name__ == "__main__":
    main()
