"""Pictures of what a refinement changed."""

from __future__ import annotations

import numpy as np
import pytest

from instsynth_dagster.refinement.gallery import LOST, OUTLINE, TILE, WON, Change, change_sheet


def share(sheet: np.ndarray, color: tuple[int, int, int]) -> float:
    """Of a sheet that is one colour exactly."""
    return float((sheet == np.array(color)).all(-1).mean())


def square(left: int, width: int) -> np.ndarray:
    mask = np.zeros((60, 90), dtype=bool)
    mask[20:40, left : left + width] = True
    return mask


@pytest.mark.parametrize(
    ("after", "lost", "won"),
    [
        (square(30, 20), False, False),
        (square(30, 10), True, False),
        (square(30, 26), False, True),
        (square(0, 0), True, False),
    ],
)
def test_what_was_lost_and_won_is_drawn(after: np.ndarray, lost: bool, won: bool) -> None:
    image = np.full((60, 90, 3), 120, np.uint8)
    sheet = change_sheet([Change(image, square(30, 20), after, "car")])
    assert sheet.shape[1] >= 4 * TILE
    assert (share(sheet, LOST) > 0) == lost
    assert (share(sheet, WON) > 0) == won
    assert OUTLINE not in (LOST, WON)


def test_a_mask_at_the_corner_of_a_small_image() -> None:
    image, mask = np.zeros((12, 30, 3), np.uint8), np.zeros((12, 30), dtype=bool)
    mask[:5, 25:] = True
    assert change_sheet([Change(image, mask, ~mask, "train")]).dtype == np.uint8
