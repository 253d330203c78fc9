"""The checks that stand on assets."""

from __future__ import annotations

import pandas as pd
import pytest

from assets.segmentation_scores import ap_sanity
from assets.shared.made import Check
from assets.training_sets import class_balance
from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from tests.assets.test_graph import Project


@pytest.mark.parametrize(
    ("ap", "ap50", "passed"), [(0.2, 0.4, True), (0, 0, False), (0.97, 0.99, False), (0.5, 0.4, False)]
)
def test_scores_that_cannot_be_are_flagged(ap, ap50, passed):
    check = ap_sanity(ap, ap50)
    assert check.passed is passed
    assert not check.blocking


def instances(frames, windows=None):
    rows = {"frame": frames} | ({"window": windows} if windows else {})
    return pd.DataFrame.from_dict(rows, orient="index", columns=["instances_car", "instances_bus", "instances_train"])


def test_a_class_that_synthesis_forgot_is_flagged():
    frames = (10, 2, 0)
    assert class_balance(instances(frames)).passed
    assert class_balance(instances(frames, (10, 4, 0))).passed  # no real train: nothing to weigh
    assert not class_balance(instances(frames, (10, 0, 0))).passed
    drowned = class_balance(instances(frames, (20, 1, 0)))
    assert not drowned.passed
    assert drowned.description == "bus x1.50, car x3.00"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    made = Project(tmp_path_factory.mktemp("checks"))
    made.refresh()
    return made


def of_valdale(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows, one of which, of a car where there are classes, now comes from a val city."""
    planted = rows.copy()
    one = planted.index[planted["class_name"] == "car"][0] if "class_name" in planted else 0
    planted.loc[one, column] = planted.loc[one, column].replace("ashford", "valdale")
    return planted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted_in", "column", "asset", "partition", "name"),
    [
        ("frames[ashford]", "frame_id", "training_sets", "real", "no_val_sample"),
        ("frames[ashford]", "city", "training_sets", "real", "no_val_sample"),
        ("zoom_crop/is_cityscapes[ashford|car]", "source_frame", "training_sets", "zoom_crop", "no_val_sample"),
        ("zoom_crop/is_cityscapes[ashford|car]", "instance_id", "training_sets", "zoom_crop", "no_val_sample"),
        ("instances[ashford]", "frame_id", "selected_instances", "ashford|car", "only_train_frames"),
        ("frames[ashford]", "city", "selected_instances", "ashford|car", "only_train_frames"),
    ],
)
def test_a_planted_sample_of_a_foreign_city_is_found(project, planted_in, column, asset, partition, name):
    """By its rows: the params file names the same cities as before."""
    store, upstream = project.store, tuple(planted_in.removesuffix("]").split("["))
    resources = {"store": store, "dataset": CityscapesData(project.root / "data", CITYSCAPES)}
    true = store.read(*upstream)

    def check(rows: pd.DataFrame) -> Check:
        with store.write(*upstream, "a" * 64) as out:
            out.add_table(rows)
        artifact = project.graph[asset]
        with store.write(asset, partition, "b" * 64) as out:
            made = artifact.declaration.make(out, partition, **artifact.arguments(partition, resources))
        return next(check for check in made.checks if check.name == name)

    found = check(of_valdale(true, column))
    assert found.blocking
    assert not found.passed
    assert "is no frame of a train city" in found.description
    assert check(true).passed
