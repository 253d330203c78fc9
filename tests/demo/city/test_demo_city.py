"""The demo city: deterministic, all classes, masks that agree with what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from instsynth_dagster.data.formats.cityscapes import CLASSES, LABEL_BY_NAME, instance_index, list_frames, read_frame
from instsynth_dagster.demo.city import caption, city_frames, render_scene, write_demo_city
from instsynth_dagster.settings import DemoCitySettings


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, 512, 256) for seed in range(40)]


def test_the_same_seed_gives_the_same_bytes():
    first, second, other = (render_scene(seed, 320, 160) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.ids, second.ids)
    assert (first.image != other.image).any()


def test_every_class_is_there_and_rare_ones_are_rare(scenes):
    counts = dict.fromkeys(CLASSES, 0)
    for scene in scenes:
        for kind in scene.attributes.values():
            counts[kind.class_name] += 1
    assert min(counts.values()) >= 3
    assert counts["car"] > 3 * counts["train"]
    ids = np.concatenate([np.unique(scene.ids) for scene in scenes])
    assert (ids[ids >= 1000] % 256 == 0).any()
    assert np.isin([LABEL_BY_NAME["person"].id, LABEL_BY_NAME["bicycle"].id], ids).any()


def test_attributes_and_ids_agree(scenes):
    for scene in scenes:
        index = instance_index(scene.ids)
        single = index[~index["is_group"]].set_index("value")
        assert set(single.index) == set(scene.attributes)
        assert (single["area"] >= 10).all()
        for value, kind in scene.attributes.items():
            assert single.loc[value, "class_name"] == kind.class_name
            assert kind.color in caption(kind)


def test_a_mask_holds_the_colour_it_is_said_to_have(scenes):
    right = total = 0
    for scene in scenes:
        for value, kind in scene.attributes.items():
            mask = scene.ids == value
            if kind.class_name in ("car", "bus", "truck") and kind.color in ("red", "blue") and mask.sum() > 300:
                red, _, blue = scene.image[mask].astype(int).T
                share = ((red - blue if kind.color == "red" else blue - red) > 30).mean()
                right += share > 0.3
                total += 1
    assert total > 10
    assert right >= 0.9 * total


def test_class_weights_raise_a_class():
    plain, raised = (
        sum(
            kind.class_name == "train"
            for seed in range(12)
            for kind in render_scene(seed, 256, 128, w).attributes.values()
        )
        for w in (None, {"train": 20.0})
    )
    assert raised > 3 * max(plain, 1)


def test_a_written_city_reads_back(tmp_path):
    settings = DemoCitySettings(width=256, height=128, frames_per_city=3, seed=1)
    assert write_demo_city(tmp_path, "train", "elm", settings) == 3
    for frame, (frame_id, image, ids) in zip(list_frames(tmp_path, "elm"), city_frames("elm", settings), strict=True):
        assert frame.frame_id == frame_id
        stored = read_frame(frame)
        np.testing.assert_array_equal(stored[0], image)
        np.testing.assert_array_equal(stored[1], ids)
