"""Evaluation: figures of rankings."""

from __future__ import annotations

from edge_claid.evaluate.metrics import Rankings, Report, average_precision, evaluate, iou

__all__ = ["Rankings", "Report", "average_precision", "evaluate", "iou"]
