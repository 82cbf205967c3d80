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
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import av
import results_file
from rtsp_server import SYSTEM_PYTHON, RtspServer, missing

from edge_claid.frames import Patience, Stream, open_stream
from edge_claid.records import SourceEvent, TimedFrame

# A recovery that takes longer than this counts as a hang, in seconds.
HANG = 60.0


def play(kills: int, seed: int, tell: Any = None) -> dict[str, Any]:
    """Rounds of kills until there were so many; what happened."""
    moments = random.Random(seed)
    server = RtspServer().start()
    done = unrecovered = 0
    reasons: Counter[str] = Counter()
    recoveries: list[float] = []
    counts: list[dict[str, int]] = []
    began = time.monotonic()
    try:
        with open_stream(server.url, wait=True) as stream:
            read_for(stream, HANG, reasons, since=0.0)
            while done < kills and not unrecovered:
                read_for(stream, moments.uniform(0.0, 1.0), reasons)
                server.kill()
                done += 1
                killed = time.monotonic()
                if done < kills and moments.random() < 0.5:
                    # Once more, while it is being opened anew.
                    server.start()
                    read_for(stream, moments.uniform(0.0, 0.8), reasons)
                    server.kill()
                    done += 1
                    killed = time.monotonic()
                read_for(stream, moments.uniform(0.0, 0.3), reasons)
                server.start()
                unrecovered += not read_for(stream, HANG, reasons, since=killed)
                recoveries.append(time.monotonic() - killed)
                counts.append(held())
                if tell is not None and len(counts) % 25 == 0:
                    tell(f"{done} kills, {recoveries[-1]:.1f} s, {counts[-1]}")
    finally:
        server.kill()
    seconds = time.monotonic() - began
    return summary(done, unrecovered, recoveries, counts) | {
        "reasons": dict(reasons.most_common()),
        # What the parent says of a capture process that ended otherwise than it should.
        "crashes": sum(count for reason, count in reasons.items() if "capture process" in reason),
        "seconds": round(seconds, 1),
    }


def read_for(stream: Stream, seconds: float, reasons: Counter[str], since: float = math.inf) -> bool:
    """Read for so long, or until a frame comes that was captured after ``since``; whether one came.

    reasons: counts of why the source could not be read.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        answer = stream.read(left)
        if isinstance(answer, TimedFrame) and answer.captured > since:
            return True
        # The first attempt only repeats why the source was lost.
        if isinstance(answer, SourceEvent) and answer.reason and not answer.reason.startswith("attempt 1:"):
            reasons[answer.reason.partition(": ")[2] or answer.reason] += 1
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


def summary(kills: int, unrecovered: int, recoveries: list[float], counts: list[dict[str, int]]) -> dict[str, Any]:
    """The result as it is stored.

    recovery_seconds: from a kill to the next frame, the server's own restart included. leaked: growth from the first
    recovery to the last.
    """
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
    }


def gstreamer_version() -> str:
    """As its RTSP server's machine says it."""
    code = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; print(*Gst.version(), sep='.')"
    return subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "rtsp_kills.json")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    result = play(arguments.kills, arguments.seed, lambda line: print(line, file=sys.stderr, flush=True))
    versions = {
        "pyav": av.__version__,
        "libavformat": ".".join(map(str, av.library_versions["libavformat"])),
        "gstreamer": gstreamer_version(),
    }
    results_file.write(arguments.out, {"rtsp_kills": {"seed": arguments.seed, **result, **versions}})
    print(json.dumps(result, indent=None if arguments.json else 1))
    raise SystemExit(1 if result["not_found_again"] or result["crashes"] or any(result["leaked"].values()) else 0)


if __name__ == "__main__":
    main()
