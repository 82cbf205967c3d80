"""Many clients at once on ``edge-claid serve``: does each get frames, does memory stay flat, what of those that stall?

    python tools/serve_clients.py --out benchmarks/results/serve.json

Starts the real server in a process of its own, over a stand-in for the networks (so that there are many frames) and a
clip that it makes, and watches it with clients that read and clients that have stopped reading.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import results_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "web"))
REQUEST = b"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--stalled", type=int, default=10, help="clients beside them that stop reading")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", nargs=2, metavar=("GALLERY", "CLIP"), help="be the server (used by this tool)")
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    found = measured(options.clients, options.stalled, options.seconds)
    print(json.dumps(found, indent=1))
    if options.out:
        results_file.write(options.out, {"clients": found})


def measured(clients: int, stalled: int, seconds: float) -> dict[str, Any]:
    """Figures of one run. Raises RuntimeError where the server does not come up."""
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "clip.mp4", rate=10, seconds=seconds + 12)
        command = [sys.executable, __file__, "--serve", str(Path(folder) / "clients.claid"), str(clip)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                line = server.stdout.readline() if server.stdout else ""
                if not line.startswith("port "):
                    raise RuntimeError("the server did not come up")
                found = asyncio.run(watch(int(line.split()[1]), server.pid, clients, stalled, seconds))
            finally:
                server.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(20)
                server.kill()
    return found


async def watch(port: int, pid: int, clients: int, stalled: int, seconds: float) -> dict[str, Any]:
    await listening(port)
    before = memory_mb(pid), open_files(pid)
    idle = [await connected(port) for _ in range(stalled)]
    until = time.monotonic() + seconds
    held = [before[1]]

    async def sampled() -> list[float]:
        samples = []
        while time.monotonic() < until:
            samples.append(memory_mb(pid))
            held.append(open_files(pid))
            await asyncio.sleep(min(1.0, seconds / 10))
        return samples

    samples, *read = await asyncio.gather(sampled(), *(frames_until(port, until) for _ in range(clients)))
    counts, gaps = zip(*read, strict=True)
    for _, writer in idle:
        writer.close()
    await asyncio.sleep(6.0)
    return {
        "clients": clients,
        "stalled_clients": stalled,
        "seconds": seconds,
        "frames_per_client": {"least": min(counts), "most": max(counts)},
        "longest_gap_seconds": round(max(gaps), 2),
        "memory_mb": {"before": round(before[0], 1), **memory_figures(samples)},
        "open_files": {"before": before[1], "most": max(held), "at_the_end": held[-1], "after": open_files(pid)},
    }


async def frames_until(port: int, until: float) -> tuple[int, float]:
    """One client that reads: the frames it got, and the longest it waited for one, seconds."""
    reader, writer = await connected(port)
    last, count, longest = time.monotonic(), 0, 0.0
    async for picture in messages(reader):
        now = time.monotonic()
        if picture:
            count, longest, last = count + 1, max(longest, now - last), now
        if now >= until:
            break
    writer.close()
    return count, longest


def memory_figures(samples: list[float]) -> dict[str, float]:
    """Megabytes once it has settled, at first and at last, and at most."""
    settled = samples[len(samples) // 6 :]
    part = max(1, len(settled) // 4)
    return {
        "settled_first_quarter": round(sum(settled[:part]) / part, 1),
        "settled_last_quarter": round(sum(settled[-part:]) / part, 1),
        "most": round(max(samples), 1),
    }


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    writer.write(REQUEST)
    await writer.drain()
    return reader, writer


async def listening(port: int) -> None:
    """Wait for the server: it tells its port before it listens, and opens what it works with on the first picture."""
    for patience in range(200):
        with contextlib.suppress(ConnectionRefusedError):
            reader, writer = await connected(port)
            break
        if patience == 199:
            raise RuntimeError("the server does not listen")
        await asyncio.sleep(0.1)
    async for picture in messages(reader):
        if picture:
            break
    writer.close()
    await asyncio.sleep(1.0)


async def messages(reader: asyncio.StreamReader) -> Any:
    """Pictures of the stream, b"" for messages without one; chunked transfer is taken apart first."""
    await reader.readuntil(b"\r\n\r\n")
    waiting = b""
    while size := int((await reader.readline()).strip() or b"0", 16):
        waiting += await reader.readexactly(size)
        await reader.readexactly(2)
        while len(waiting) >= 8:
            facts, picture = struct.unpack(">II", waiting[:8])
            if len(waiting) < 8 + facts + picture:
                break
            yield waiting[8 + facts : 8 + facts + picture]
            waiting = waiting[8 + facts + picture :]


def serve(gallery: str, clip: str) -> None:
    """The server of this tool: the product's own, over the stand-in of the tests."""
    from colour_pipeline import ColourPipeline

    from edge_claid import ops
    from edge_claid.gallery.store import Gallery
    from edge_claid.live import WatchedGallery
    from edge_claid.web.access import Access
    from edge_claid.web.listening import listening
    from edge_claid.web.running import Running

    pipeline, path = ColourPipeline(), Path(gallery)
    Gallery.open(path, "create").close()
    with (
        listening("127.0.0.1", 0) as listener,
        WatchedGallery(gallery, pipeline, ops.load().code_scan) as watched,
        Running(path, pipeline, watched, Access("127.0.0.1"), clip) as running,
    ):
        print("port", listener.getsockname()[1], flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            running.serve(listener)


def make_clip(path: Path, rate: int, seconds: float) -> Path:
    """A clip of moving noise, hard to encode, so that pictures are large."""
    import av
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (480, 1280, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "35"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(round(rate * seconds)):
            shift = number * 4 % 640
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise[:, shift : shift + 640].copy(), "rgb24")))
        container.mux(stream.encode(None))
    return path


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


if __name__ == "__main__":
    main()
