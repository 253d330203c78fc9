"""Val frames that come into training by another name, another encoding or another city."""

from __future__ import annotations

from pathlib import Path

import cv2
import dagster as dg
import numpy as np
import pytest

from instsynth_dagster.data.dataset import CityscapesData
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, list_frames, read_frame, write_frame
from instsynth_dagster.data.near_duplicates import MAX_DISTANCE, leaked_frames, near_duplicates, perceptual_hash
from instsynth_dagster.demo.city import write_demo_city
from instsynth_dagster.settings import DemoCitySettings
from tests.assets.test_few_labels import SISEG
from tests.assets.test_graph import Project


def jpeg(image: np.ndarray) -> np.ndarray:
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


COPIES = {
    "the same bytes": lambda image: image,
    "re-encoded": jpeg,
    "half the size": lambda image: np.repeat(np.repeat(image[::2, ::2], 2, 0), 2, 1),
    "brighter": lambda image: np.clip(image * 1.25 + 10, 0, 255).astype(np.uint8),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    settings = DemoCitySettings(width=256, height=128, frames_per_city=12)
    for city, split in (("ashford", "train"), ("valdale", "val")):
        write_demo_city(root, split, city, settings)
    return root


@pytest.mark.slow
def test_different_streets_are_far_apart(streets) -> None:
    frames = [frame for city in ("ashford", "valdale") for frame in list_frames(streets, city)]
    hashes = [perceptual_hash(read_frame(frame)[0]) for frame in frames]
    assert sorted(near_duplicates(hashes, hashes)) == [(index, index) for index in range(len(hashes))]


def test_a_flat_image_is_like_no_other() -> None:
    flat = perceptual_hash(np.full((40, 80, 3), 90, np.uint8))
    assert list(near_duplicates([flat], [flat])) == []
    assert MAX_DISTANCE < 128


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_under_another_name_is_found(how, streets, tmp_path) -> None:
    """Planted in a train city that is called otherwise."""
    val = list_frames(streets, "valdale")[3]
    image, ids = read_frame(val)
    write_frame(tmp_path, "train", "newtown_000000_000007", COPIES[how](image), ids)
    tables = [
        CityscapesData(root, CITYSCAPES).frame_table(city).assign(split=split)
        for root, city, split in (
            (streets, "ashford", "train"),
            (tmp_path, "newtown", "train"),
            (streets, "valdale", "val"),
        )
    ]
    import pandas as pd

    (leak,) = leaked_frames(pd.concat(tables))
    assert leak.startswith(val.frame_id)
    assert "newtown_000000_000007 (train)" in leak


def test_a_leak_stops_the_run_before_anything_is_selected(tmp_path) -> None:
    project = Project(tmp_path)
    image, ids = read_frame(list_frames(tmp_path / "data", "valdale")[0])
    write_frame(tmp_path / "data", "train", "birchley_000000_000009", jpeg(image), ids)
    with pytest.raises((dg.DagsterExecutionStepExecutionError, dg.Failure), match=r"no_frame_in_two_splits.*valdale"):
        project.refresh()
    made = {path.parent.parent.name for path in (tmp_path / "artifacts").rglob("manifest.json")}
    assert made <= {"frames", "instances", "prompt_bank"}  # nothing that reads splits


@pytest.mark.slow
def test_a_leak_among_semantic_maps_stops_too(tmp_path) -> None:
    project = Project(tmp_path)
    image, ids = read_frame(list_frames(tmp_path / "data", "valdale")[0])
    write_frame(tmp_path / "data", "train", "unlabelled_000000_000000", jpeg(image), ids)
    with pytest.raises((dg.DagsterExecutionStepExecutionError, dg.Failure), match=r"no_val_frame.*valdale"):
        project.refresh(semantics={"segmenter": SISEG, "cities": ["unlabelled"]}, arms=["real", "from_semantics"])
