"""Recipes: the shipped ones fit their networks, and a wrong one says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_claid.engines.pictures import own_pictures
from edge_claid.engines.recipe import DeviceNote, Shapes, recipe, recipe_names
from edge_claid.errors import UsageError
from edge_claid.models.zoo import entry, zoo

REPOSITORY = Path(__file__).parents[2]


def test_every_embedded_network_has_a_recipe():
    assert {known.name for known in zoo().values() if known.embedded} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_fit_their_networks(name):
    known, network = recipe(name), entry(name)
    assert known.network == name
    assert network.checked_layer(known.layer) == known.layer
    assert known.outputs[0] == network.output
    for shape in (known.shapes.smallest, known.shapes.usual, known.shapes.largest):
        assert all(size % network.stride == 0 for size in shape[1:])
    # A Jetson's builder must leave an 8 GB board room.
    assert known.workspace_mb(("sm_87",)) <= 512
    assert {"sm_86", "sm_87", "sm_89", "sm_110", "sm_120"} <= set(known.devices)


def test_one_engine_for_several_gpus_takes_the_smallest_of_their_largest(small):
    assert small(devices={}).shapes_on(("sm_86",)).largest == (2, 64, 64)
    notes = {"sm_86": DeviceNote(100, (8, 64, 64)), "sm_89": DeviceNote(50, (4, 64, 64))}
    known = small(devices=notes)
    assert known.shapes_on(("sm_86",)).largest == (8, 64, 64)
    assert known.shapes_on(("sm_86", "sm_89")).largest == (4, 64, 64)
    assert known.shapes_on(("sm_86", "sm_120")).largest == (2, 64, 64)
    assert known.workspace_mb(("sm_86", "sm_89")) == 50
    # A larger batch of smaller pictures: what both take is the smaller of each.
    mixed = small(devices={"sm_86": DeviceNote(1, (4, 32, 64)), "sm_89": DeviceNote(1, (1, 64, 32))})
    assert mixed.shapes_on(("sm_86", "sm_89")).largest == (1, 32, 32)


@pytest.fixture
def small():
    from small_network import small_recipe

    return small_recipe


GOOD = """network = "x"
layer = 8
input = "planes"
outputs = ["tokens"]
precisions = ["fp16"]
[shapes]
smallest = [1, 14, 14]
usual = [1, 28, 28]
largest = [1, 28, 56]
"""


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"planes"', '"pictures"', "planes"),
        ('["fp16"]', '["fp17"]', "fp16"),
        ('["fp16"]', "[]", "precisions"),
        ("[1, 28, 56]", "[1, 28, 7]", "grow"),
        ("[1, 14, 14]", "[0, 14, 14]", "grow"),
        ("[1, 28, 56]", "[1, 28, 56]\n[devices.sm_87]\nlargest = [1, 14, 56]", "grow"),
        ("layer = 8", "layers = 8", "layers"),
        ("[shapes]", "[shape]", "shapes"),
        ("layer = 8", "layer = ", "recipe"),
    ],
)
def test_a_wrong_recipe_is_told_with_its_file(tmp_path: Path, before, after, told):
    (tmp_path / "x.toml").write_text(GOOD)
    assert recipe("x", tmp_path).shapes == Shapes((1, 14, 14), (1, 28, 28), (1, 28, 56))
    (tmp_path / "x.toml").write_text(GOOD.replace(before, after))
    with pytest.raises(UsageError, match=told) as caught:
        recipe("x", tmp_path)
    assert "x.toml" in str(caught.value)


def test_an_unknown_network_is_told_with_the_known_ones():
    with pytest.raises(UsageError, match="dinov2-s14-focus"):
        recipe("no-such-network")


def test_a_precision_that_is_not_allowed_is_told(small):
    assert small().checked_precision(None) == "fp16"
    with pytest.raises(UsageError, match="fp16 or fp32"):
        small().checked_precision("fp8")


def test_calibration_pictures_are_there_with_source_and_licence():
    listed = (REPOSITORY / "calibration" / "pictures.toml").read_text()
    pictures = own_pictures()
    assert len(pictures) == listed.count("licence =") == listed.count("source =") == 8
    assert all(path.is_file() for path in pictures)
