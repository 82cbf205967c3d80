"""Label tables and folder names."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_claid.errors import UsageError
from edge_claid.gallery.labels import Labels, folder_label, read_labels


def table(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "l.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"a/x.png,cup\nb.png,bowl\n",
        b"\xef\xbb\xbfpath;label\r\na/x.png;cup\r\n\r\n./b.png; bowl \r\n",
        b"File\tLabel\tmore\na\\x.png\tcup\t1\nb.png\tbowl\t2",
    ],
)
def test_tables(tmp_path: Path, content: bytes) -> None:
    labels = read_labels(table(tmp_path, content))
    assert labels.label("a/x.png", "/r/a/x.png") == "cup"
    assert labels.label("b.png", "/r/b.png") == "bowl"
    assert labels.given("c.png", "/r/c.png") is None


def test_paths_may_be_relative_to_the_table(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, b"photos/b.png,bowl\n"))
    assert labels.given("b.png", str(tmp_path / "photos" / "b.png")) == "bowl"


def test_quoted_names(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, b'"a,1\nx.png","cup, blue"\n'))
    assert labels.given("a,1\nx.png", "/r") == "cup, blue"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a.png\n", "line 1: expected a path and a label"), (b"a\xff,b\n", "UTF-8"), (b'"a,b\n', "line 1")],
)
def test_broken_tables(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_labels(table(tmp_path, content))


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")


def test_order_of_precedence() -> None:
    assert Labels(text="all", table={"a/b.png": "one"}).label("a/b.png", "/r/a/b.png") == "all"
    assert Labels(table={"a/b.png": "one"}).label("a/b.png", "/r/a/b.png") == "one"
    assert Labels().label("a/b.png", "/r/a/b.png") == "a"
    assert Labels().label("b.png", "/r/b.png") is None
    assert folder_label("x/new\nline/b.png") is None
