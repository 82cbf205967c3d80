"""A bounded queue from working threads to the one that a signal interrupts.

``queue.Queue`` takes its lock in Python code: a KeyboardInterrupt that is raised right after leaves it locked for good,
and every thread that wants it waits for ever. ``queue.SimpleQueue`` takes and gives its lock inside one call in C.
"""

from __future__ import annotations

from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """most: items that wait at most; whoever puts one more waits for room."""

    def __init__(self, most: int):
        self._items: SimpleQueue[Item] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._room.put(None)

    def put(self, item: Item) -> None:
        """Hand an item over; from any thread but the interrupted one."""
        self._room.get()
        self._items.put(item)

    def get(self, timeout: float) -> Item:
        """The next item. Raises queue.Empty after so many seconds without one."""
        item = self._items.get(timeout=timeout)
        self._room.put(None)
        return item

    def empty(self) -> bool:
        return self._items.empty()
