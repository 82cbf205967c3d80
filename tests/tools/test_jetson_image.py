"""What Dockerfile.jetson installs is what the package asks for; the image itself cannot be built here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (REPOSITORY / "requirements-jetson.txt").read_text().splitlines()
    wanted = [line.partition(";")[0].split("==") for line in lines if line and not line.startswith("#")]
    return {name.strip(): version.strip() for name, version in wanted}


def test_every_package_that_a_board_needs_is_pinned_within_its_bounds(pins):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["jetson"], *extras["web"]]
    for requirement in asked:
        name, least = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()
        assert name in pins, f"{name} is asked for by pyproject.toml"
        pinned = [int(part) for part in pins[name].split(".")]
        assert pinned >= [int(part) for part in least.split(".")]
    assert len(asked) > 8


def test_tensorrt_is_the_systems(pins):
    assert not [name for name in pins if "tensorrt" in name or "cuda" in name.replace("pycuda", "")]
    assert "--system-site-packages" in (REPOSITORY / "Dockerfile.jetson").read_text()


def test_what_the_image_copies_is_there():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (REPOSITORY / "Dockerfile.jetson").read_text(), re.MULTILINE)
    names = " ".join(copied).split()
    assert {"requirements-jetson.txt", "edge_claid", "engines", "calibration"} <= set(names)
    assert all((REPOSITORY / name).exists() for name in names)
