"""Polygons redraw the id map they were made of, by the official scripts' own drawing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from hypothesis import given, settings
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, polygons

VALUES = (0, 7, 23, 24, 26, 24000, 24001, 26000, 26256, 33007)


def official(tmp_path: Path, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, list]:
    """Label and instance map as cityscapesScripts draw them, and the objects."""
    (tmp_path / "polygons.json").write_text(json.dumps(polygons(ids)))
    annotation = Annotation()
    annotation.fromJsonFile(str(tmp_path / "polygons.json"))
    drawn = np.asarray(createLabelImage(annotation, "ids")), np.asarray(createInstanceImage(annotation, "ids"))
    return *drawn, annotation.objects


def counted(ids: np.ndarray) -> Counter[int]:
    return Counter(value // 1000 for value in np.unique(ids).tolist() if value >= 1000)


def street() -> np.ndarray:
    return np.full((128, 256), 7, np.int32)


def split_car() -> np.ndarray:
    """A car in two parts with a person between them."""
    ids = street()
    ids[40:80, 50:90] = ids[40:80, 110:120] = 26000
    ids[30:90, 95:105] = 24000
    return ids


def ringed_person() -> np.ndarray:
    """A person inside the ring of a bicycle's wheel."""
    ids = street()
    ids[20:100, 40:120], ids[24:96, 44:116] = 33000, 7
    ids[40:80, 60:70] = 24000
    return ids


def single_pixel() -> np.ndarray:
    ids = street()
    ids[5, 9] = 24000
    return ids


def crossing_diagonals() -> np.ndarray:
    """Two objects that touch at corners only, each inside what the other encloses."""
    ids = street()
    rows, columns = np.indices((40, 60))
    ids[10:50, 20:80] = np.where((rows + columns) % 2, 26000, 26001)
    return ids


@pytest.mark.parametrize("picture", [split_car, ringed_person, single_pixel, crossing_diagonals])
def test_the_official_scripts_redraw_labels_and_count_instances(picture, tmp_path):
    ids = picture()
    labels, instances, objects = official(tmp_path, ids)
    np.testing.assert_array_equal(labels, CITYSCAPES.label_ids(ids))
    assert counted(instances) == counted(ids)
    assert min(len(item.polygon) for item in objects) >= 3


def test_the_largest_part_is_the_instance_and_the_others_a_group(tmp_path):
    ids = split_car()
    _, instances, objects = official(tmp_path, ids)
    assert Counter(item.label for item in objects) == {"road": 1, "car": 1, "cargroup": 1, "person": 1}
    np.testing.assert_array_equal(instances[40:80, 50:90], 26000)
    np.testing.assert_array_equal(instances[40:80, 110:120], 26)


def test_what_is_whole_comes_back_pixel_for_pixel(tmp_path):
    ids = ringed_person()
    _, instances, _ = official(tmp_path, ids)
    np.testing.assert_array_equal(instances, ids)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 24), width=st.integers(1, 24), kinds=st.integers(1, 10))
def test_any_id_map_is_redrawn(tmp_path_factory, seed, height, width, kinds):
    """Noise, which is all components, corners and holes."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(VALUES[:kinds] if seed % 2 else VALUES[-kinds:], (height, width)).astype(np.int32)
    labels, instances, objects = official(tmp_path_factory.mktemp("noise"), ids)
    np.testing.assert_array_equal(labels, CITYSCAPES.label_ids(ids))
    assert counted(instances) == counted(ids)
    assert min(len(item.polygon) for item in objects) >= 3


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 12))
def test_pictures_of_overlapping_shapes_are_redrawn(tmp_path_factory, seed, count):
    rng = np.random.default_rng(seed)
    ids = np.full((48, 64), 7, np.int32)
    for value in rng.choice(VALUES, count):
        y, x, reach = rng.integers(0, 48), rng.integers(0, 64), rng.integers(1, 24)
        rows, columns = np.indices(ids.shape)
        far = np.abs(rows - y) + np.abs(columns - x) if value % 2 else np.hypot(rows - y, columns - x)
        ids[(far <= reach) & (far > rng.integers(-1, reach))] = value
    labels, instances, _ = official(tmp_path_factory.mktemp("shapes"), ids)
    np.testing.assert_array_equal(labels, CITYSCAPES.label_ids(ids))
    assert counted(instances) == counted(ids)
