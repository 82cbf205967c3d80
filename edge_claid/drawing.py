"""Annotated pictures: boxes with captions, region trees level by level, contact sheets of a search."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_claid.errors import StorageError
from edge_claid.records import Frame, Regions

Box = Sequence[float]
QUERY_COLOUR = (40, 90, 230)
HIT_COLOUR = (30, 160, 70)
TILE = 300  # width and height of a contact sheet's picture, pixels
CAPTION = 26  # height of the line under it


def with_boxes(pixels: np.ndarray, boxes: Sequence[Box], colour: tuple[int, int, int], caption: str = "") -> np.ndarray:
    """A copy of the picture, (H, W, 3) uint8 RGB, with boxes and a caption at the first box."""
    drawn = np.ascontiguousarray(pixels).copy()
    thick = max(2, round(max(drawn.shape[:2]) / 200))
    for box in boxes:
        x0, y0, x1, y1 = (round(float(value)) for value in box)
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, thick)
    if caption and boxes:
        x, y = round(float(boxes[0][0])), round(float(boxes[0][1]))
        size = min(max(max(drawn.shape[:2]) / 1000, 0.35), 2.0)
        write_text(drawn, caption, (max(x, 0), max(y - 4, round(30 * size))), colour, size)
    return drawn


def write_text(
    pixels: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, int, int], size: float = 0.5
) -> None:
    """A line of text on a white ground, its lower left corner at `place`; letters OpenCV lacks become '?'."""
    plain = _drawable(text)
    (width, height), base = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x, y = place
    cv2.rectangle(pixels, (x, y - height - 3), (x + width + 2, y + base), (255, 255, 255), -1)
    cv2.putText(pixels, plain, (x + 1, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def fitting(text: str, width: int) -> str:
    """The text as it can be drawn, its end cut off so far that a line of it is no wider than `width` pixels."""
    text = _drawable(text)
    while len(text) > 4 and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] > width:
        text = text[: -4 if text.endswith("...") else -1].rstrip(".") + "..."
    return text


def _drawable(text: str) -> str:
    """Letters OpenCV has, "?" for others: bytes of a name that are no text (PEP 383) would end the process there."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def region_levels(frame: Frame, regions: Regions) -> list[np.ndarray]:
    """One picture a level of the tree: each region of the level tinted by its mask and outlined by its box."""
    levels = []
    for depth in range(1, int(regions.depths.max(initial=0)) + 1):
        rows = np.flatnonzero(regions.depths == depth)
        if not len(rows):
            continue
        tinted = frame.pixels.copy()
        for order, row in enumerate(rows):
            tint(tinted, regions.mask(int(row)), colour_of(order))
        for order, row in enumerate(rows):
            tinted = with_boxes(tinted, [regions.boxes[row]], colour_of(order))
        levels.append(tinted)
    return levels


def tint(pixels: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Mix a colour into the pixels under a token mask, in place."""
    size = (pixels.shape[1], pixels.shape[0])
    inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    pixels[inside] = (0.55 * pixels[inside] + 0.45 * np.array(colour)).astype(np.uint8)


def colour_of(order: int) -> tuple[int, int, int]:
    """Well separated hues: steps of the golden ratio around the circle."""
    hue = int(order * 0.6180339887 * 180) % 180
    one_pixel = np.array([[[hue, 200, 235]]], np.uint8)
    red, green, blue = cv2.cvtColor(one_pixel, cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)


def contact_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 4) -> np.ndarray:
    """Pictures side by side, each shrunk into a tile with its caption below; (H, W, 3) uint8 RGB."""
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (TILE + CAPTION), columns * TILE, 3), 255, np.uint8)
    for order, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        top, left = order // columns * (TILE + CAPTION), order % columns * TILE
        small = thumbnail(picture)
        height, width = small.shape[:2]
        y, x = top + (TILE - height) // 2, left + (TILE - width) // 2
        sheet[y : y + height, x : x + width] = small
        write_text(sheet, fitting(caption, TILE - 10), (left + 4, top + TILE + 14), (20, 20, 20))
    return sheet


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """The picture as a contact sheet shows it; what is kept of many pictures until their sheet is drawn."""
    scale = min((TILE - 8) / picture.shape[1], (TILE - 8) / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Write a picture, its kind told by the suffix. Raises StorageError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        done, encoded = cv2.imencode(path.suffix or ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        if not done:
            raise StorageError(f"{path}: OpenCV writes no pictures of the kind {path.suffix}")
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(encoded.tobytes())
        os.replace(part, path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}; choose another place") from error
