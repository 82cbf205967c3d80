"""Which sighting of this frame continues which track."""

from __future__ import annotations

import numpy as np


def box_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every box of one list with every box of another: (A, 4), (B, 4) to (A, B) float64."""
    a, b = first[:, None, :], second[None, :, :]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    areas = np.prod(first[:, 2:] - first[:, :2], axis=1)[:, None] + np.prod(second[:, 2:] - second[:, :2], axis=1)
    return shared / np.maximum(areas - shared, 1e-9)


def nearness(expected: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """1 where centres meet, 0 from one and a half diagonals of the larger box on: (A, 4), (B, 4) to (A, B)."""
    centres = (expected[:, None, :2] + expected[:, None, 2:] - seen[None, :, :2] - seen[None, :, 2:]) / 2
    apart = np.linalg.norm(centres, axis=-1)
    diagonals = [np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (expected, seen)]
    return np.maximum(0.0, 1.0 - apart / np.maximum(1.5 * np.maximum.outer(*diagonals), 1e-9))


def assign(benefit: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) of the largest total benefit, no row and no column twice; only pairs of positive benefit.

    benefit: (A, B) float, at most 1; zero or less forbids the pair. Shortest augmenting paths (Jonker and Volgenant,
    A shortest augmenting path algorithm for dense and sparse linear assignment problems, Computing 38, 1987).
    """
    rows, columns = benefit.shape
    if rows == 0 or columns == 0:
        return []
    if rows > columns:
        return sorted((row, column) for column, row in assign(benefit.T))
    # A column of its own stands for "no pair" of every row, so that a forbidden pair is never forced.
    cost = np.concatenate([1.0 - np.maximum(benefit, 0.0), np.ones((rows, rows))], axis=1)
    taken_by = _augmented(cost)
    return sorted(
        (row, column) for column, row in enumerate(taken_by[:columns]) if row >= 0 and benefit[row, column] > 0
    )


def _augmented(cost: np.ndarray) -> list[int]:
    """Row that takes each column, or -1, at the least total cost; every row takes one. cost: (A, B), A <= B."""
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    taken_by = np.full(columns, -1)
    for start in range(rows):
        distance = np.full(columns, np.inf)
        came_from = np.full(columns, -1)
        visited = np.zeros(columns, bool)
        row, column, shortest = start, -1, 0.0
        while True:
            reduced = shortest + cost[row] - row_price[row] - column_price
            better = ~visited & (reduced < distance)
            distance[better], came_from[better] = reduced[better], column
            column = int(np.where(visited, np.inf, distance).argmin())
            shortest = distance[column]
            visited[column] = True
            if taken_by[column] < 0:
                break
            row = taken_by[column]
        on_path = np.flatnonzero(visited & (taken_by >= 0))
        row_price[taken_by[on_path]] += shortest - distance[on_path]
        row_price[start] += shortest
        column_price[visited] -= shortest - distance[visited]
        while column >= 0:
            before = came_from[column]
            taken_by[column] = start if before < 0 else taken_by[before]
            column = before
    return [int(row) for row in taken_by]
