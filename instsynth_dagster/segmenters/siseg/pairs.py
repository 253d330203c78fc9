"""Losses over pairs of cells: which cells belong together according to a semantic map (L_D and L_B)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instsynth_dagster.segmenters.shared.normaliser import batch_total

IGNORED = 255
BACKGROUND = 0
_EPS = 1e-5


def pair_offsets(radius: int) -> list[tuple[int, int]]:
    """(dy, dx) of every unordered pair of cells closer than `radius`, once: 152 for 10, 34 for 5."""
    return [
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius + 1, radius)
        if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius
    ]


@dataclass(frozen=True)
class Pairs:
    """All pairs (a, b) of cells at one offset (dy, dx), a above or left; both slice the last two dimensions."""

    offset: tuple[int, int]
    first: tuple[slice, slice]
    second: tuple[slice, slice]

    def ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values of x (..., h, w) at the two cells of each pair."""
        return x[..., *self.first], x[..., *self.second]


def all_pairs(offsets: Sequence[tuple[int, int]], size: tuple[int, int]) -> Iterator[Pairs]:
    """Pairs at each offset that fits into the grid."""
    for offset in offsets:
        if offset[0] < size[0] and abs(offset[1]) < size[1]:
            yield pairs_at(offset, size)


def pairs_at(offset: tuple[int, int], size: tuple[int, int]) -> Pairs:
    """Pairs on a grid of height and width `size`."""
    (dy, dx), (height, width) = offset, size
    left, right = max(0, -dx), min(width, width - dx)
    return Pairs(
        offset,
        (slice(0, height - dy), slice(left, right)),
        (slice(dy, height), slice(left + dx, right + dx)),
    )


def line(offset: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Cells on the straight line from (0, 0) to the offset, both ends included, without repetitions."""
    dy, dx = offset
    steps = max(abs(dy), abs(dx))
    for step in range(steps + 1):
        yield round(step * dy / steps), round(step * dx / steps)


def affinity(boundary: Tensor, pairs: Pairs) -> Tensor:
    """1 - the largest boundary value on the line between the two cells of each pair: (..., h', w')."""
    top, left = pairs.first[0].start, pairs.first[1].start
    height, width = pairs.first[0].stop - top, pairs.first[1].stop - left
    crossed = [boundary[..., top + y : top + y + height, left + x : left + x + width] for y, x in line(pairs.offset)]
    return 1 - torch.stack(crossed).amax(0)


@dataclass(frozen=True)
class PairLosses:
    """Means over pairs, 0 where there is none: `displacement` of pairs within an object, `background` of pairs outside,
    and `boundary` cross-entropy, in which the two kinds of pairs that belong together have weight 1/2 each and the
    others 1.
    """

    displacement: Tensor
    background: Tensor
    boundary: Tensor


def pair_losses(field: Tensor, boundary: Tensor, labels: Tensor, offsets: Sequence[tuple[int, int]]) -> PairLosses:
    """L_D and L_B.

    Cells of one foreground label must point to the same place: D_a - D_b = x_b - x_a. Cells of different labels must be
    separated by a boundary, cells of one label must not.

    Args:
        field: displacement (B, 2, h, w), dy then dx, in cells.
        boundary: (B, 1, h, w) in 0..1.
        labels: int64 (B, h, w): BACKGROUND, IGNORED, or the label that separates objects: a class for semantic
            supervision, a unique number for each instance.
    """
    sums = {
        name: [field.new_zeros(()), field.new_zeros(())] for name in ("within", "outside", "same", "empty", "apart")
    }
    for pairs in all_pairs(offsets, (field.shape[2], field.shape[3])):
        one, other = pairs.ends(labels)
        known = (one != IGNORED) & (other != IGNORED)
        within, outside = known & (one == other) & (one != BACKGROUND), known & (one == BACKGROUND) & (other == one)
        apart = known & (one != other)
        first, second = pairs.ends(field)
        difference = first - second
        expected = difference.new_tensor(pairs.offset)[:, None, None]
        near = affinity(boundary, pairs)[:, 0].clamp(_EPS, 1 - _EPS)
        for name, where, values in (
            ("within", within, (difference - expected).abs().sum(1)),
            ("outside", outside, difference.abs().sum(1)),
            ("same", within, -near.log()),
            ("empty", outside, -near.log()),
            ("apart", apart, -(1 - near).log()),
        ):
            sums[name][0] = sums[name][0] + (values * where).sum()
            sums[name][1] = sums[name][1] + where.sum()
    mean = {name: total / batch_total(count).clamp(min=1) for name, (total, count) in sums.items()}
    together = (mean["same"] + mean["empty"]) / 2
    return PairLosses(mean["within"], mean["outside"], together + mean["apart"])


def gauge_loss(field: Tensor, components: Tensor) -> Tensor:
    """Mean absolute mean displacement of the components.

    The pair losses leave a constant in each object undetermined. Displacements to an object's own centroid sum to 0,
    and so do those of touching objects together, so that a connected component of a class needs no instance labels for
    this loss; an object cut in two by an occluder violates the assumption.

    Args:
        field: (B, 2, h, w).
        components: int64 (B, h, w), 0 background, numbers that are unique within an image.
    """
    total, count = field.new_zeros(()), 0
    for image, numbers in zip(field, components, strict=True):
        number = int(numbers.max())
        if not number:
            continue
        index = numbers.flatten()
        sums = image.new_zeros(2, number + 1).index_add(1, index, image.flatten(1))[:, 1:]
        areas = torch.bincount(index, minlength=number + 1)[1:].clamp(min=1)
        total, count = total + (sums / areas).abs().sum(), count + number
    return total / batch_total(count, field.device).clamp(min=1)
