"""Queries from the command line and from files, and the names of what is saved for them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_claid.cli.queries import Query, RejectedQuery, one_query, read_queries
from edge_claid.cli.saved_names import SavedNames
from edge_claid.errors import UsageError


def read(folder: Path, content: str, encoding: str = "utf-8") -> list[Query | RejectedQuery]:
    file = folder / "queries.jsonl"
    file.write_bytes(content.encode(encoding))
    return read_queries(file)


def test_every_line_is_a_query_or_says_why_not(tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "image": "a.jpg", "box": [1, 2, 3, 4]}',
        "no JSON",
        "",
        "[1]",
        '{"id": "box", "image": "a.jpg", "box": "1,2,3,4"}',
        '{"id": "both", "image": "a.jpg", "box": [1, 2, 3, 4], "boxes": [[1, 2, 3, 4]]}',
        '{"id": {"no": "text"}, "image": "a.jpg"}',
        '{"id": "empty", "image": ""}',
        '{"id": null, "image": "b.jpg", "box": null}\r',
    ]
    first, *bad, last = read(tmp_path, "\n".join(lines))
    assert first == Query("a", str(tmp_path / "a.jpg"), [(1.0, 2.0, 3.0, 4.0)])
    assert last == Query("b.jpg", str(tmp_path / "b.jpg"), [])
    assert all(isinstance(one, RejectedQuery) for one in bad)
    assert [one.id for one in bad] == ["line 2", "line 4", "box", "both", "line 7", "empty"]
    assert "four numbers" in str(bad[2])


def test_what_unicode_calls_the_end_of_a_line_may_stand_in_a_name(tmp_path: Path) -> None:
    name = "a\u2028b\x85c.jpg"
    (query,) = read(tmp_path, json.dumps({"image": name}, ensure_ascii=False))
    assert query == Query(name, str(tmp_path / name), [])


def test_a_file_written_on_windows(tmp_path: Path) -> None:
    assert [one.id for one in read(tmp_path, '{"image": "a"}\r\n{"image": "b"}\r\n', "utf-8-sig")] == ["a", "b"]


def test_a_stream_is_no_picture_and_its_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rtsp://\*\*\*@cam/1 is no picture") as refused:
        one_query("rtsp://user:secret@cam/1", [])
    assert "secret" not in str(refused.value)
    (line,) = read(tmp_path, '{"image": "rtsp://user:secret@cam/1"}')
    assert isinstance(line, RejectedQuery)
    assert "secret" not in line.id + line.reason
    (tmp_path / "0").touch()
    assert read(tmp_path, '{"image": "0"}') == [Query("0", str(tmp_path / "0"), [])]


@given(st.lists(st.text(st.characters(codec=None), max_size=300), max_size=6))
def test_saved_names_lie_in_their_folder_and_differ(things: list[str]) -> None:
    names = SavedNames()
    given_names = [names.name_of(thing) for thing in things]
    assert len({name.casefold() for name in given_names}) == len(things)
    for name in given_names:
        assert name not in ("", ".", "..")
        assert os.path.basename(name) == name
        assert len(name.encode()) <= 210


def test_saved_names_are_those_of_the_pictures() -> None:
    names = SavedNames()
    paths = ["a/db can-03.jpg", "b/db can-03.png", "Ä/ключ.jpg", "..", "x\n\udce9.jpg"]
    assert [names.name_of(path) for path in paths] == ["db can-03", "db can-03-2", "ключ", "query", "x__"]
