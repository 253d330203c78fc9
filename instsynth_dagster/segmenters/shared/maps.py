"""Semantic and panoptic maps from queries, as Mask2Former and OneFormer define them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.segmenters.shared.scoring import Geometry

MIN_SCORE = 0.5
"""Least score of a query's best class for a segment in a panoptic map."""
MIN_VISIBLE = 0.8
"""Share of a segment's own mask that must remain visible; otherwise the segment is dropped."""


def semantic_map(
    class_logits: Tensor, mask_logits: Tensor, classes: Sequence[str], geometry: Geometry, labels: LabelTable
) -> np.ndarray:
    """Label ids int32 (H, W): the class with the largest sum over queries of class probability times mask probability.

    Args:
        class_logits: float (Q, C + 1), "no object" last.
        mask_logits: float (Q, h, w).
    """
    probabilities = class_logits.float().softmax(-1)[:, :-1]
    scores = torch.einsum("qc,qhw->chw", probabilities, mask_logits.float().sigmoid())
    label_ids = torch.tensor(labels.ids_of(classes), dtype=torch.int32)
    return label_ids[geometry.restore(scores).argmax(0).cpu()].numpy()


def panoptic_map(
    class_logits: Tensor, mask_logits: Tensor, classes: Sequence[str], geometry: Geometry, labels: LabelTable
) -> np.ndarray:
    """Id map int32 (H, W), unlabeled where there is no segment; arguments as for `semantic_map`.

    Each pixel belongs to the query with the largest score times mask probability. Segments of one stuff class are
    united.
    """
    scores, found = class_logits.float().softmax(-1).max(-1)
    kept = (found < len(classes)) & (scores >= MIN_SCORE)
    ids = np.full(geometry.image, labels.unlabeled, dtype=np.int32)
    if not kept.any():
        return ids
    scores = scores[kept]
    inside = geometry.restore(mask_logits[kept].float()).sigmoid()
    winner = (scores[:, None, None] * inside).argmax(0)
    counts: dict[int, int] = {}
    for number, index in enumerate(found[kept].tolist()):
        whole, own = inside[number] >= 0.5, winner == number
        visible = own & whole
        if not visible.any() or own.sum() < MIN_VISIBLE * whole.sum():
            continue
        label = labels[classes[index]]
        value = label.id
        if label.has_instances:
            counts[index] = counts.get(index, -1) + 1
            value = labels.instance_id(label.id, counts[index])
        ids[visible.cpu().numpy()] = value
    return ids
