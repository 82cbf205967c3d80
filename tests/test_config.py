"""Settings from a file: what is said counts, what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from edge_claid.config import Settings, load_settings
from edge_claid.errors import UsageError
from edge_claid.setting_ranges import RANGES


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
        ("[networks]\nvit_side = -5", r"vit_side is -5; it must lie in 28 to 2048"),
        ("[networks]\ndescriptor_side = 0", "descriptor_side"),
        ("[descriptors]\npower = nan", "power is nan"),
        ("[search]\ntemperature = 0", "temperature"),
        ("[codes]\nbytes = 7", "7 bytes do not divide a width of"),
    ],
)
def test_mistakes_are_named(tmp_path, text, named):
    with pytest.raises(UsageError, match=named):
        load_settings(write(tmp_path, text))


def test_every_number_has_its_range_and_its_default_lies_in_it():
    for part in fields(Settings):
        numbers = {
            key: value for key, value in asdict(getattr(Settings(), part.name)).items() if type(value) is not str
        }
        for key in RANGES[part.name]:
            least, most = RANGES[part.name][key]
            assert least <= numbers[key] <= most
        assert {key for key, value in numbers.items() if type(value) is not bool} - {"token_layer"} <= set(
            RANGES[part.name]
        )


def test_a_whole_number_is_the_same_setting_as_the_number_with_its_point(tmp_path):
    settings = load_settings(write(tmp_path, "[descriptors]\npower = 3\n[regions]\nalpha = 0\n"))
    assert str(settings.descriptors.power) == "3.0"
    assert settings.descriptors == Settings().descriptors
    assert json.dumps(settings.regions.alpha) == "0.0"
    assert load_settings(write(tmp_path, "[descriptors]\npower = inf")).descriptors.power == float("inf")


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")
