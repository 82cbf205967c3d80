"""Evaluation: figures of rankings, and the recall of regions."""

from __future__ import annotations

from edge_claid.evaluate.metrics import Rankings, Report, average_precision, evaluate, iou
from edge_claid.evaluate.region_recall import RegionRecall, iou_matrix, region_recall

__all__ = ["Rankings", "RegionRecall", "Report", "average_precision", "evaluate", "iou", "iou_matrix", "region_recall"]
