"""The scan's peer: a plain gather, sum and top-k of regions by torch, for tools/bench_cuda.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def torch_gather_ms(
    codes: np.ndarray, table: np.ndarray, k: int, timed: Callable[[Callable[[], None]], float], where: str = "cuda"
) -> float | str | None:
    """Milliseconds for one query over codes (N, M) uint8 by its table (M, 256) float32.

    timed: gives the milliseconds of what it calls. where: torch's name of a device. None without torch or its CUDA;
    why, where it fails.
    """
    try:
        import torch
    except ImportError:
        return None
    if where == "cuda" and not torch.cuda.is_available():
        return None
    try:
        on_gpu, tables = (torch.from_numpy(values).to(where) for values in (codes, table))

        def work() -> None:
            total = torch.zeros(len(on_gpu), device=where)
            for m in range(table.shape[0]):
                total += tables[m][on_gpu[:, m].long()]
            torch.topk(total, k, largest=False)
            if where == "cuda":
                torch.cuda.synchronize()

        return timed(work)
    except RuntimeError as error:  # the class of CUDA's errors
        return f"failed: {error}"
