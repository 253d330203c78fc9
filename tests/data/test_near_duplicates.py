"""Val frames that come into training by another name, another encoding or another city."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import numpy as np
import pytest

from assets.shared.kept import outcomes
from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, list_frames, read_frame, write_frame
from instsynth_dagster.data.near_duplicates import (
    MAX_DISTANCE,
    Leak,
    leak_message,
    leaked_frames,
    near_duplicates,
    perceptual_hash,
)
from instsynth_dagster.demo.city import write_demo_city
from instsynth_dagster.settings import DemoCitySettings
from tests.assets.test_few_labels import SISEG
from tests.assets.test_graph import Project, settings_for


def jpeg(image: np.ndarray) -> np.ndarray:
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


COPIES = {
    "the same pixels": lambda image: image,
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


@pytest.mark.slow
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
    assert (leak.frame_id, leak.split, leak.train_id) == (val.frame_id, "val", "newtown_000000_000007")
    assert leak.how == ("mirrored is nearly" if how == "mirrored" else "is nearly")


def test_the_line_names_the_first_leaks_and_what_helps_against_all() -> None:
    near = [Leak(f"v_{number}", "val", "is nearly", f"t_{number // 2}") for number in range(4)]
    assert leak_message(near[:1], may_allow=True) == (
        'v_0 (val) is nearly t_0 (train); leave the train frames out with dataset.leave_out: ["t_0"]; or, if these are '
        "different pictures to you, set dataset.near_duplicates to allow"
    )
    line = leak_message([*near, Leak("v_9", "test", "is", "grün 7")], may_allow=True)
    assert "v_2 (val) is nearly t_1 (train), and 2 more; " in line
    assert line.endswith('dataset.leave_out: ["t_0", "t_1", "grün 7"]')  # an exact copy may not be allowed


def leaky(root: Path, copied: bool = False) -> dict[str, Any]:
    """Plants a val frame in a train city; returns the section `dataset`."""
    source = list_frames(root / "data", "valdale")[0]
    image, ids = read_frame(source)
    write_frame(root / "data", "train", "birchley_000000_000009", jpeg(image), ids)
    if copied:
        target = root / "data/leftImg8bit/train/birchley/birchley_000000_000009_leftImg8bit.png"
        target.write_bytes(source.image.read_bytes())
    return settings_for(root).dataset.model_dump(mode="json", exclude_unset=True)


@pytest.mark.slow
def test_a_frame_that_is_left_out_counts_as_absent(tmp_path) -> None:
    project = Project(tmp_path)
    section = leaky(tmp_path, copied=True) | {"near_duplicates": "allow"}  # which an exact copy is not
    with pytest.raises(dg.Failure, match=r'leave_out: \["birchley_000000_000009"\]$'):
        project.refresh(dataset=section, arms=["real"])
    made = project.refresh(dataset=section | {"leave_out": ["birchley_000000_000009"]}, arms=["real"])
    assert ("splits", "all") in made
    assert "birchley_000000_000009" not in set(project.store.read("frames", "birchley")["frame_id"])
    assert ("frames", "ashford") not in made  # which was whole, and stays
    for wrong, says in (
        ("birchley_000000_000099", "birchley has no frame"),
        ("birhcley_0_9", "of no city that is named"),
    ):
        with pytest.raises((dg.Failure, ValueError), match=says):
            project.refresh(dataset=section | {"leave_out": [wrong]}, arms=["real"])


@pytest.mark.slow
def test_near_duplicates_may_be_allowed_and_are_told(tmp_path) -> None:
    project = Project(tmp_path)
    project.refresh(dataset=leaky(tmp_path) | {"near_duplicates": "allow"}, arms=["real"])
    gate, warning = outcomes(project.store.require("splits"))
    assert gate.passed
    assert not warning.passed
    assert warning.description.endswith(
        "images to score on that are nearly train images, and were allowed: 1; scores on them may flatter"
    )


@pytest.mark.slow
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
