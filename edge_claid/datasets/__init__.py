"""Datasets for evaluation: one reader per layout, all giving the same :class:`Dataset`."""

from __future__ import annotations

from edge_claid.datasets.coco import BoxDataset, is_box_dataset, open_boxes
from edge_claid.datasets.dataset import Box, Dataset, DatasetImage, Query, Truth
from edge_claid.datasets.layouts import open_dataset

__all__ = [
    "Box",
    "BoxDataset",
    "Dataset",
    "DatasetImage",
    "Query",
    "Truth",
    "is_box_dataset",
    "open_boxes",
    "open_dataset",
]
