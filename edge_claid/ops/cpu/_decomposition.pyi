from collections.abc import Sequence

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]

class NotFiniteError(ValueError): ...

class Arguments:
    def __init__(
        self, *, center: np.ndarray | None, alpha: float, tau1: float, energy_rank: int, smallest: int, max_nodes: int
    ) -> None: ...

def decompose(features: np.ndarray, rows: int, columns: int, arguments: Arguments, isa: str = "auto") -> Arrays: ...
def decompose_batch(
    features: Sequence[np.ndarray],
    rows: Sequence[int],
    columns: Sequence[int],
    arguments: Arguments,
    threads: int,
    isa: str = "auto",
) -> list[Arrays]: ...
def decompose_float(
    features: np.ndarray,
    rows: int,
    columns: int,
    arguments: Arguments,
    released: bool,
    shuffle_seed: int | None,
    seeds: np.ndarray | None,
    isa: str = "auto",
) -> Arrays: ...
def timed(
    features: np.ndarray, rows: int, columns: int, arguments: Arguments, isa: str, repeats: int
) -> list[dict[str, float]]: ...
def supported_isas() -> list[str]: ...
