"""Work that takes the networks or the disk: in a few threads, never in the event loop, with a bounded queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class BusyError(Exception):
    """As much work waits as may wait."""


class Jobs:
    """A pool of threads with a bound on what waits for it. most: jobs in work and waiting together."""

    def __init__(self, name: str, workers: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(workers, name)
        self._places = threading.BoundedSemaphore(most)

    async def run(self, work: Callable[..., Result], *args: object) -> Result:
        """The result of the work, done in a thread. Raises BusyError where there is no place for it."""
        if not self._places.acquire(blocking=False):
            raise BusyError
        future = self._pool.submit(work, *args)
        # The place is free when the work has ended, also where its asker has gone away before.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """What is in work is finished, what waits is left."""
        self._pool.shutdown(wait=True, cancel_futures=True)
