"""Losses, one a file: the paper's equation, shapes, and nothing else."""
