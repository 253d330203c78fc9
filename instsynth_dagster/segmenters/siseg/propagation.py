"""Semantic-aware propagation: scores spread to neighbours and stop at boundaries and at other classes."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from instsynth_dagster.segmenters.siseg.pairs import affinity, all_pairs, pair_offsets


def transition(boundary: np.ndarray, semantics: np.ndarray, radius: int, beta: float) -> sparse.csr_matrix:
    """Q (P, P) of P = h * w cells: affinities ** beta within `radius` between cells of one class, and 1 on the
    diagonal, with columns that sum to 1.

    Args:
        boundary: float (h, w) in 0..1.
        semantics: integer (h, w).
    """
    height, width = semantics.shape
    cells = np.arange(height * width).reshape(height, width)
    edges = torch.from_numpy(np.ascontiguousarray(boundary))[None]
    rows, columns, values = [cells.ravel()], [cells.ravel()], [np.ones(cells.size)]
    for pairs in all_pairs(pair_offsets(radius), (height, width)):
        near = affinity(edges, pairs)[0].numpy().astype(np.float64) ** beta
        near = near * (semantics[pairs.first] == semantics[pairs.second])
        kept = near > 1e-12
        one, other, value = cells[pairs.first][kept], cells[pairs.second][kept], near[kept]
        rows += [one, other]
        columns += [other, one]
        values += [value, value]
    matrix = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(cells.size, cells.size)
    )
    return matrix @ sparse.diags(1 / np.asarray(matrix.sum(0)).ravel())


def propagate(scores: np.ndarray, matrix: sparse.csr_matrix, steps: int) -> np.ndarray:
    """Q^steps applied to scores float (K, h, w); their sum is conserved."""
    flat = scores.reshape(len(scores), -1).T
    for _ in range(steps):
        flat = matrix @ flat
    return flat.T.reshape(scores.shape)
