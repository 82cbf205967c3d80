"""Runners: networks on a device."""

from edge_claid.runners.onnx_runner import OnnxRunner
from edge_claid.runners.runner import Runner

__all__ = ["OnnxRunner", "Runner"]
