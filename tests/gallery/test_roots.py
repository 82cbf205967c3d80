"""Which folder is which: names, places and file systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_claid.gallery import roots
from edge_claid.gallery.roots import all_roots, find_root, register_root, volume_of
from edge_claid.gallery.store import Gallery


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        yield gallery


@pytest.fixture
def volumes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is mounted where."""
    mounted: dict[str, str] = {}
    monkeypatch.setattr(roots, "volume_of", lambda location: mounted.get(location, ""))
    return mounted


def test_a_stick_under_another_mount_point_is_the_same_root(gallery: Gallery, volumes: dict[str, str]) -> None:
    volumes["/media/usb0"] = "AA:."
    first = register_root(gallery, "/media/usb0", "usb0")
    volumes["/media/usb1"] = volumes.pop("/media/usb0")
    again = register_root(gallery, "/media/usb1", "usb1")
    assert again.id == first.id
    assert [(root.name, root.location) for root in all_roots(gallery)] == [("usb0", "/media/usb1")]


def test_another_stick_under_the_same_mount_point_is_another_root(gallery: Gallery, volumes: dict[str, str]) -> None:
    volumes["/media/usb0"] = "AA:."
    first = register_root(gallery, "/media/usb0", "usb0")
    volumes["/media/usb0"] = "BB:."
    assert find_root(gallery, "/media/usb0", "usb0") is None
    assert register_root(gallery, "/media/usb0", "usb0").id != first.id


def test_without_volumes_the_place_decides(gallery: Gallery, volumes: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a" / "photos").mkdir(parents=True)
    (tmp_path / "b" / "photos").mkdir(parents=True)
    first = register_root(gallery, str(tmp_path / "a" / "photos"), "photos")
    second = register_root(gallery, str(tmp_path / "b" / "photos"), "photos")
    assert first.id != second.id
    (tmp_path / "b" / "photos").rename(tmp_path / "b" / "photos2")
    (tmp_path / "c" / "photos").mkdir(parents=True)
    assert register_root(gallery, str(tmp_path / "c" / "photos"), "photos").id == second.id


def test_volume_is_told_or_empty(tmp_path: Path) -> None:
    told = volume_of(str(tmp_path))
    assert told == "" or ":" in told
    assert volume_of(str(tmp_path / "missing")) == ""
