"""Agreement over looks: what a track is, once enough looks say the same."""

from __future__ import annotations

from collections import Counter, deque

from edge_claid.live.answer import Sighting


class Votes:
    """The last looks of one track and what they agree on.

    looks: how many are needed. agreement: share of them that must name one item (defaults as in Frigate's policy:
    3 looks, 60 %). window: looks remembered; older ones no longer count.
    """

    def __init__(self, looks: int, agreement: float, window: int) -> None:
        self._looks, self._agreement = looks, agreement
        self._votes: deque[Sighting | None] = deque(maxlen=max(window, looks))
        self.item: str | None = None

    def add(self, sighting: Sighting | None) -> None:
        """One more look: what it named, or None where it named nothing."""
        self._votes.append(sighting if sighting is not None and sighting.item is not None else None)
        named = Counter(vote.item for vote in self._votes if vote is not None)
        enough = max(self._looks, len(self._votes)) * self._agreement
        if len(self._votes) < self._looks or not named:
            self.item = None
            return
        # The name in force stays while it has enough votes, so that two items never alternate from look to look.
        if self.item is not None and named[self.item] >= enough:
            return
        item, count = named.most_common(1)[0]
        self.item = item if count >= enough else None

    def clear(self) -> None:
        """Start anew."""
        self._votes.clear()
        self.item = None

    @property
    def settled(self) -> bool:
        """Whether there were looks enough for an answer."""
        return len(self._votes) >= self._looks

    @property
    def leading(self) -> str | None:
        """The item with most votes so far, the latest among equals, or None."""
        named = Counter(vote.item for vote in reversed(self._votes) if vote is not None)
        return named.most_common(1)[0][0] if named else None

    def supporting(self, item: str) -> list[Sighting]:
        """Looks that named this item, oldest first."""
        return [vote for vote in self._votes if vote is not None and vote.item == item]
