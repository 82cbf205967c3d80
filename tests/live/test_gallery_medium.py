"""A gallery whose medium is removed, or full, while it is looked up in."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_holdings import described, names, stock, watched

from edge_claid.errors import StorageError
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery


def test_a_removed_medium_is_told_once_and_the_look_up_goes_on(tmp_path: Path) -> None:
    (tmp_path / "medium").mkdir()
    path = stock(tmp_path / "medium" / "g.claid", range(6))
    with watched(path) as gallery:
        path.parent.rename(tmp_path / "away")
        event = gallery.poll()
        assert (event.event, event.state) == ("gallery", "refused")
        assert "is gone" in event.facts["reason"]
        assert event.facts["reason"].endswith("going on with the gallery as it was")
        assert gallery.poll() is None
        assert names(gallery, 3) == {"3.png"}
        (tmp_path / "away").rename(path.parent)
        stock(path, [9])
        assert gallery.poll().facts == {"images": 7}
        assert names(gallery, 9) == {"9.png"}


def test_a_full_medium_stops_the_writer_and_not_the_look_up(tmp_path: Path) -> None:
    path = stock(tmp_path / "g.claid", range(6))
    with watched(path) as gallery:
        with Gallery.open(path, "rw") as writer:
            with writer.reading() as held:
                pages = held.execute("PRAGMA page_count").fetchone()[0]
                held.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(StorageError) as full:
                writer.add([NewImage(1, f"{n}.png", bytes([n]) * 32, 9, 9, described(n)) for n in range(20, 60)])
        assert full.value.exit_code == 9
        gallery.poll()
        assert len(gallery.holdings.items) == 6
        assert names(gallery, 3) == {"3.png"}
