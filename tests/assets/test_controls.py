"""Arms without a generator on a tiny demo city: whole frames, other paint, new places."""

from __future__ import annotations

import numpy as np
import pytest

from assets import build_assets, build_graph
from instsynth_dagster.data.images import decode_png
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.assets.test_graph import settings_for

ARMS = ["real", "zoom_crop", "oracle", "oracle_frame", "color_jitter_frame", "copy_paste_insert"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    import dagster as dg

    root = tmp_path_factory.mktemp("controls")
    dataset = {
        "root": root / "data",
        "train_cities": ["ashford", "birchley"],
        "val_cities": ["valdale"],
        "demo_city": {"width": 256, "height": 128, "frames_per_city": 4, "palette": "dull"},
    }
    given = {"arms": ARMS, "dataset": dataset, "selection": {"min_area": 40, "k": 4}}
    settings = settings_for(root, **given, integration={"window_size": [256, 128], "feather": 0})
    graph, resources = build_graph(settings), build_resources(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        workers = InThisProcess(build_assets(graph), resources, instance)
        refresh(graph, resources["store"], workers, lambda _: None)
    return settings, graph, resources


def rows(project, asset, keys=None):
    _, graph, resources = project
    return [row for key in keys or graph[asset].partitions for row in resources["store"].iterate(asset, key)]


@pytest.mark.slow
@pytest.mark.parametrize("member", ["oracle", "color_jitter"])
def test_composite_frames_are_the_frames_but_for_their_instances(project, member):
    _, graph, resources = project
    dataset, store = resources["dataset"], resources["store"]
    assert graph[f"{member}/composite_frames"].partitions == ["ashford", "birchley"]
    selected = {row["instance_id"] for row in rows(project, "selected_instances")}
    painted = set()
    for made in rows(project, f"{member}/composite_frames"):
        image, ids = dataset.image_and_ids(made["source_frame"])
        composite = decode_png(made["image_png"])
        np.testing.assert_array_equal(decode_png(made["ids_png"]), ids)
        values = [int(name.split(":")[1]) for name in made["instance_ids"]]
        changed = (composite != image).any(axis=2)
        assert changed.any()
        assert not (changed & ~np.isin(ids, values)).any()
        painted |= set(made["instance_ids"])
    assert painted == selected
    samples = store.read("training_sets", f"{member}_frame")
    frames = {row["source_frame"] for row in rows(project, f"{member}/composite_frames")}
    assert (samples["source"] == "frame").sum() == 8
    assert (samples["source"] == "window").sum() == len(frames)
    real = samples[samples["source"] == "frame"].filter(like="instances_").sum().sum()
    again = samples[samples["source"] == "window"].filter(like="instances_").sum().sum()
    assert 0 < again <= real


@pytest.mark.slow
def test_the_oracle_gives_a_dull_city_colours(project):
    def colorfulness(row):
        return np.ptp(decode_png(row["image_png"]).astype(int), axis=2).mean()

    oracle, plain = (rows(project, f"{arm}/is_cityscapes") for arm in ("oracle", "zoom_crop"))
    assert [row["instance_id"] for row in oracle] == [row["instance_id"] for row in plain]
    assert np.mean([colorfulness(row) for row in oracle]) > 1.05 * np.mean([colorfulness(row) for row in plain])
    assert np.mean([row["repainted"] for row in oracle]) > 0.5  # some keep their colour by chance


@pytest.mark.slow
def test_newcomers_stand_in_other_frames_and_the_rest_says_why_not(project):
    placed = [row for row in rows(project, "insertions") if row["reason"] == ""]
    others = [row for row in rows(project, "insertions") if row["reason"]]
    assert placed
    assert others
    dataset = project[2]["dataset"]
    for row in placed:
        _, ids = dataset.image_and_ids(row["frame_id"])
        assert row["frame_id"] != row["instance_id"].split(":")[0]
        assert not (ids == row["value"]).any()
    for row in others:
        assert row["instance_id"] == f"{row['frame_id']}:{row['value']}"
        assert row["pasted_png"] is None
    windows = {row["instance_id"]: row for row in rows(project, "copy_paste_insert/is_cityscapes")}
    assert len(windows) == len(placed) + len(others)
    for row in placed:
        window = windows[row["instance_id"]]
        assert window["source_frame"] == row["frame_id"]
        assert window["repainted"]
        assert window["target_pixels"] > 0
    assert not any(windows[row["instance_id"]]["repainted"] for row in others)


def test_an_oracle_needs_a_city_that_can_be_drawn_again(tmp_path):
    with pytest.raises(ValueError, match=r"an oracle needs dataset\.demo_city"):
        settings_for(tmp_path, arms=["real", "oracle_frame"])


def test_arms_made_with_all_labels_are_refused_for_shares(tmp_path):
    with pytest.raises(ValueError, match="'copy_paste_insert' is made with the labels of all train frames"):
        settings_for(tmp_path, arms=["real", "copy_paste_insert"], label_percents=[10])
