"""Which reader reads a folder. To add a layout: one file with ``recognises`` and ``read``, one line in the table."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edge_claid.datasets import belgalogos, gt_json, holidays, instance335, instre, oxford
from edge_claid.datasets.dataset import Dataset
from edge_claid.errors import UsageError


class Layout(Protocol):
    """What a reader module offers."""

    def recognises(self, folder: Path) -> bool:
        """Whether the folder has this layout."""
        ...

    def read(self, folder: Path) -> Dataset:
        """Read the dataset; UsageError where it is damaged."""
        ...


LAYOUTS: dict[str, Layout] = {
    "gt.json": gt_json,
    "INSTRE": instre,
    "Instance-160/335": instance335,
    "Oxford5k/Paris6k": oxford,
    "BelgaLogos": belgalogos,
    "Holidays": holidays,
}


def open_dataset(path: str | Path) -> Dataset:
    """Open the dataset in a folder, whose layout is told from its files. UsageError where it is not known."""
    folder = Path(path)
    if folder.name == gt_json.FILE:
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{path}: no such folder; give the folder of a dataset")
    for layout in LAYOUTS.values():
        if layout.recognises(folder):
            return layout.read(folder)
    raise UsageError(f"{path}: no known dataset layout; known are {', '.join(LAYOUTS)}")
