"""Settings from a file: what is said counts, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_claid.config import Settings, load_settings
from edge_claid.errors import UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_means_defaults(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_settings() == Settings()


def test_a_file_changes_what_it_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edge-claid").mkdir()
    write(tmp_path / "edge-claid", "[codes]\nbytes = 8\n[regions]\nalpha = 1\n")
    settings = load_settings()
    assert settings.codes.bytes == 8
    assert settings.regions.alpha == 1
    assert settings.search == Settings().search


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[codes]\nbites = 8", "bites"),
        ("[kodes]\nbytes = 8", "kodes"),
        ("[codes]\nbytes = 'x'", "bytes"),
        ("[regions]\ncenter = 1", "center"),
        ("[codes]\nbytes = true", "bytes"),
        ("codes = 3", "codes"),
        ("[codes", "TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, named):
    with pytest.raises(UsageError, match=named):
        load_settings(write(tmp_path, text))


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")
