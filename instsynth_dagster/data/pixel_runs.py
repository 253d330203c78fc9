"""Masks and id maps as runs of pixels: the cost of overlaps grows with the contours, not with the areas.

Pixels are counted in column-major order (down the first column, then the second), as in COCO's run-length code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class MaskRuns:
    """Foreground runs of several masks: pixels start <= p < stop belong to mask `owner`; all int64 (R,)."""

    start: np.ndarray
    stop: np.ndarray
    owner: np.ndarray
    sizes: np.ndarray
    """Pixels (height times width) of each mask according to its code, int64 (N,)."""


@dataclass(frozen=True)
class IdRuns:
    """An id map as runs of equal ids: start[r] <= p < stop[r] hold values[index[r]]; `values` int64 (V,) sorted."""

    shape: tuple[int, int]
    values: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray) -> IdRuns:
        """Runs of an int32 id map (H, W)."""
        height, width = ids.shape
        pixels = cv2.transpose(ids).ravel()
        start = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
        values, index = np.unique(pixels[start], return_inverse=True)
        return cls((height, width), values.astype(np.int64), start, np.append(start[1:], pixels.size), index)

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each value, int64 (V,)."""
        return _count(self.index, self.stop - self.start, len(self.values))

    def rle(self, value: int) -> dict[str, Any]:
        """Compressed COCO RLE of {ids == value}: {"size": [H, W], "counts": bytes}."""
        chosen = self.values[self.index] == value
        edges = np.stack([self.start[chosen], self.stop[chosen]], axis=1).ravel()
        height, width = self.shape
        lengths = np.diff(np.concatenate([[0], edges, [height * width]]))
        return coco_mask.frPyObjects({"size": [height, width], "counts": lengths.tolist()}, height, width)

    def under(self, masks: MaskRuns) -> np.ndarray:
        """Pixels of each value under each mask, int64 (N, V). The masks have the size of the id map."""
        first = np.searchsorted(self.start, masks.start, side="right") - 1
        last = np.searchsorted(self.start, masks.stop, side="left") - 1
        pieces = last - first + 1
        run = np.repeat(np.arange(len(pieces)), pieces)
        piece = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[run]
        length = np.minimum(masks.stop[run], self.stop[piece]) - np.maximum(masks.start[run], self.start[piece])
        shape = len(masks.sizes), len(self.values)
        return _count(masks.owner[run] * shape[1] + self.index[piece], length, shape[0] * shape[1]).reshape(shape)


def as_text(code: dict[str, Any]) -> dict[str, Any]:
    """A compressed run-length code with its counts as text, for JSON."""
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_runs(counts: Sequence[str]) -> MaskRuns:
    """Foreground runs of compressed COCO run-length codes, all masks at once.

    The code is a list of run lengths, background first; from the fourth on each is stored as the difference to the
    length two before it. Each number is written in characters of five bits, lowest first, with bit 6 set if the number
    continues.
    """
    characters = np.frombuffer("".join(counts).encode("ascii"), np.uint8).astype(np.int64) - 48
    last = characters & 32 == 0
    begin = np.flatnonzero(np.concatenate([[True], last[:-1]])) if len(last) else np.zeros(0, np.int64)
    digits = np.diff(np.append(begin, len(characters)))
    place = np.arange(len(characters)) - np.repeat(begin, digits)
    numbers = np.add.reduceat((characters & 31) << 5 * place, begin) if len(begin) else begin
    numbers -= np.where(characters[last] & 16, 1 << 5 * digits, 0)

    text_end = np.cumsum([len(text) for text in counts], dtype=np.int64)
    owner = np.searchsorted(text_end, begin, side="right")
    position = np.arange(len(owner)) - np.searchsorted(owner, owner)
    chain = 3 * owner + np.where(position == 0, 0, 2 - position % 2)
    order = np.argsort(chain, kind="stable")
    lengths = np.empty_like(numbers)
    lengths[order] = _cumulate(numbers[order], chain[order])

    stop = _cumulate(lengths, owner)
    foreground = (position % 2 == 1) & (lengths > 0)
    sizes = _count(owner, lengths, len(counts))
    return MaskRuns((stop - lengths)[foreground], stop[foreground], owner[foreground], sizes)


def _cumulate(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Cumulative sum that restarts with every group; members of a group are adjacent."""
    total = np.cumsum(values)
    begin = np.searchsorted(group, group)
    return total - (total - values)[begin]


def _count(index: np.ndarray, weights: np.ndarray, length: int) -> np.ndarray:
    """Weighted bincount of integers (exact below 2^53)."""
    return np.bincount(index, weights, length).astype(np.int64)
