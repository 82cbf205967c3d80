"""The compiled scan over codes; the contract is ``edge_claid.ops.reference.scan.CodeScan``."""

from edge_claid.ops.cpu._scan import CodeScan, supported_isas

__all__ = ["CodeScan", "supported_isas"]
