import sys
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def structure(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield __import__("structure")
    sys.modules.pop("structure", None)


def wheel(centre: int, size: int = 64) -> np.ndarray:
    image = np.full((size, size, 3), 200, np.uint8)
    cv2.circle(image, (centre, 32), 10, (20, 20, 20), 3)
    return image


def test_edges_are_kept_where_wheels_stay(structure):
    mask = np.zeros((64, 64), bool)
    mask[12:52, 8:56] = True
    same = structure.edges_kept(wheel(32), wheel(32), mask)
    assert same == 1
    assert structure.edges_kept(wheel(38), wheel(32), mask) < 0.6
    assert structure.edges_kept(np.full((64, 64, 3), 200, np.uint8), wheel(32), mask) == 0
    assert np.isnan(structure.edges_kept(wheel(32), np.full((64, 64, 3), 200, np.uint8), mask))


def test_an_outline_is_found_where_the_picture_has_it(structure):
    mask = np.zeros((64, 64), bool)
    mask[12:52, 8:56] = True
    shape = np.where(mask[..., None], np.uint8(30), np.uint8(200)) * np.ones(3, np.uint8)
    assert structure.outline_found(shape, mask) == 1
    assert structure.outline_found(np.full((64, 64, 3), 90, np.uint8), mask) == 0
