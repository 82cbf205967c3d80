"""What is drawn: boxes where they belong, captions that fit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_claid import drawing
from edge_claid.errors import StorageError


def test_a_box_is_drawn_on_its_edge_and_nowhere_else():
    pixels = np.zeros((100, 120, 3), np.uint8)
    drawn = drawing.with_boxes(pixels, [(20, 30, 60, 80)], (0, 255, 0))
    assert (drawn[30, 20:60, 1] == 255).all()
    assert (drawn[79, 20:60, 1] == 255).all()
    assert not drawn[50:60, 35:45].any()
    assert not pixels.any()


@pytest.mark.parametrize("name", ["a.jpg", "a-very-long-name-of-a-picture-" * 5, "ключ-🔑" * 20, "lat\udce9in-\n" * 20])
def test_captions_fit_their_tile(name):
    fitted = drawing.fitting(name, drawing.TILE)
    assert cv2.getTextSize(fitted, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] <= drawing.TILE
    assert fitted[0] == name.encode("ascii", "replace").decode()[0]


def test_a_sheet_holds_every_picture():
    pictures = [np.full((50, 30 + 40 * i, 3), 20 * i, np.uint8) for i in range(6)]
    sheet = drawing.contact_sheet(pictures, [f"{i}. name" for i in range(6)])
    assert sheet.shape == (2 * (drawing.TILE + drawing.CAPTION), 4 * drawing.TILE, 3)
    for i in range(6):
        y = i // 4 * (drawing.TILE + drawing.CAPTION) + drawing.TILE // 2
        x = i % 4 * drawing.TILE + drawing.TILE // 2
        assert sheet[y, x].tolist() == [20 * i] * 3


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        drawing.save_picture(tmp_path / "file" / "x.jpg", np.zeros((4, 4, 3), np.uint8))
