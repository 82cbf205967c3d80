"""Networks: the zoo, their weights, and the ONNX files made of them."""

from edge_claid.models.network import NetworkFile, open_network

__all__ = ["NetworkFile", "open_network"]
