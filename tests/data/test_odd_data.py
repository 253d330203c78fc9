"""Odd but legal data through all three phases: tiny, huge and missing instances, and a class that nobody has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.data.images import decode_png
from tests.tiny_pipelines import save_tiny_inpainting
from tests.toy_run import raw_settings, run

HEIGHT, WIDTH = 64, 128


def write_odd_city(root):
    rng = np.random.default_rng(0)
    scenes = {name: np.full((HEIGHT, WIDTH), 7, np.int32) for name in ("empty", "pixel", "huge", "whole", "group")}
    scenes["pixel"][0, WIDTH - 1] = 26000
    scenes["huge"][4:60, 2:120] = 28000
    scenes["whole"][:] = 26256
    scenes["group"][10:40, 10:60] = 24
    for number, ids in enumerate(scenes.values()):
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        write_frame(root, "train", f"oddville_{number:06}_000019", image, ids)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    write_odd_city(root / "data")
    raw = raw_settings(
        root,
        save_tiny_inpainting(root / "tiny"),
        dataset={"root": str(root / "data"), "train_cities": ["oddville"]},
        classes=["car", "person", "bus", "train"],
        prompts={name: {"templates": [f"a photo of a {name}"]} for name in ("car", "person", "bus", "train")},
        selection={"policy": "paper", "min_area": 1, "k": 3},
        arms=["zoom_crop", "diffinpainting"],
    )
    return run(raw)


def windows(store, class_name):
    return store.read("diffinpainting/is_cityscapes", f"oddville|{class_name}")


@pytest.mark.slow
def test_frames_without_instances_and_groups_give_nothing(store):
    assert store.require("frames", "oddville").rows == 5
    assert store.require("diffinpainting/is_cityscapes", "oddville|person").rows == 0


@pytest.mark.slow
def test_a_class_nobody_has_is_an_empty_partition(store):
    for asset in ("selected_instances", "diffinpainting/inpainted_crops", "diffinpainting/is_cityscapes"):
        manifest = store.require(asset, "oddville|train")
        assert (manifest.rows, manifest.parts) == (0, ())


@pytest.mark.slow
def test_an_instance_of_one_pixel_is_repainted_and_kept(store):
    (window,) = [w for w in windows(store, "car").to_dict("records") if w["instance_id"].endswith(":26000")]
    ids = decode_png(window["ids_png"])
    assert ids.shape == (128, 256)
    assert (ids == 26000).any()
    assert window["outside_difference"] == 0


@pytest.mark.slow
def test_an_instance_larger_than_half_the_frame_keeps_its_mask(store):
    (window,) = windows(store, "bus").to_dict("records")
    ids = decode_png(window["ids_png"])
    assert (ids == 28000).mean() > 0.5
    assert decode_png(window["image_png"]).shape == (128, 256, 3)


@pytest.mark.slow
def test_an_instance_that_is_the_whole_frame_with_an_id_divisible_by_256(store):
    (window,) = [w for w in windows(store, "car").to_dict("records") if w["instance_id"].endswith(":26256")]
    assert (decode_png(window["ids_png"]) == 26256).all()


@pytest.mark.slow
def test_exports_hold_every_window(store):
    exported = store.read("diffinpainting/export")
    total = sum(len(windows(store, name)) for name in ("car", "bus"))
    assert total == 3
    assert isinstance(exported, pd.DataFrame)
    assert exported["file"].str.endswith("_leftImg8bit.png").sum() == total
