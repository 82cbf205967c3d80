"""What fine-tuning runs on."""

from __future__ import annotations

import torch

from edge_claid.errors import MachineError


def training_device() -> torch.device:
    """The GPU that a network is fine-tuned on. Raises MachineError naming what is missing for it."""
    if torch.version.cuda is None:
        missing = f"the torch that is installed ({torch.__version__}) is built without CUDA: install one that has it"
    elif not torch.cuda.is_available():
        missing = f"torch (for CUDA {torch.version.cuda}) finds no NVIDIA GPU, or no driver for it: see `nvidia-smi`"
    else:
        return torch.device("cuda")
    raise MachineError(
        f"--finetune needs a GPU, and {missing}. Without --finetune only a head is learned, which needs no GPU"
    )
