"""The demo city: deterministic, all classes, masks that agree with what is drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, list_frames, read_frame
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.demo.city import caption, city_frames, render_scene, repainted_frame, write_demo_city
from instsynth_dagster.demo.city.palette import PAINTS, palette_colors
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import DemoCitySettings


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, 512, 256) for seed in range(40)]


def test_the_same_seed_gives_the_same_bytes():
    first, second, other = (render_scene(seed, 320, 160) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.ids, second.ids)
    assert (first.image != other.image).any()


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"palette": "dull"}, {"repaint": 1}, {"palette": "dull", "repaint": 1}])
def test_other_paint_changes_no_shape_and_nothing_but_the_painted(given):
    for seed in range(3):
        plain, painted = render_scene(seed, 256, 128), render_scene(seed, 256, 128, **given)
        np.testing.assert_array_equal(plain.ids, painted.ids)
        assert plain.attributes.keys() == painted.attributes.keys()
        changed = (plain.image != painted.image).any(axis=2)
        # the edges of an instance are drawn smoothly, half a pixel beyond its mask
        near = cv2.dilate((plain.ids > 23).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert not (changed & ~near).any()
        assert changed.any()


@pytest.mark.slow
def test_a_dull_city_wears_no_colours_and_a_repainted_one_all():
    vehicles, clothes, repainted = set(), set(), set()
    for seed in range(6):
        for kind in render_scene(seed, 256, 128, palette="dull").attributes.values():
            (clothes if kind.variant else vehicles).add(kind.color)
        again = render_scene(seed, 256, 128, palette="dull", repaint=0)
        repainted |= {kind.color for kind in again.attributes.values()}
    assert vehicles == set(palette_colors("dull")[0]) == {"white", "black", "silver"}
    assert clothes == set(palette_colors("dull")[1]) == {"white", "black"}
    assert repainted == set(palette_colors("full")[0]) == set(PAINTS)
    with pytest.raises(ValueError, match="'pale' is not one of full, dull"):
        render_scene(0, 256, 128, palette="pale")


@pytest.mark.slow
def test_only_train_cities_and_those_like_them_are_dull(tmp_path):
    settings = DemoCitySettings(width=256, height=128, frames_per_city=1, palette="dull", like_train=("calm",))
    written = {}
    for split, city in (("train", "dim"), ("val", "calm"), ("val", "gay")):
        write_demo_city(tmp_path, split, city, settings)
        written[city] = read_frame(list_frames(tmp_path, city)[0])[0]
    for city, palette in (("dim", "dull"), ("calm", "dull"), ("gay", "full")):
        scene = render_scene(content_seed(settings.seed, city, 0), 256, 128, palette=palette)
        np.testing.assert_array_equal(written[city], scene.image)


@pytest.mark.slow
def test_a_class_can_be_rare_in_the_train_cities_alone():
    settings = DemoCitySettings(width=256, height=128, frames_per_city=12, train_counts={"car": 0.05})
    cars = {
        split: sum(len(np.unique(ids[ids // 1000 == 26])) for _, _, ids in city_frames("any", settings, split))
        for split in ("train", "val")
    }
    assert cars["train"] < 0.3 * cars["val"]


@pytest.mark.slow
def test_a_frame_is_drawn_again_in_other_colours():
    settings = DemoCitySettings(width=256, height=128, frames_per_city=2, palette="dull")
    (_, _, _), (frame_id, image, ids) = city_frames("dim", settings, "train")
    first, again, other = (repainted_frame(frame_id, settings, "train", number) for number in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != image)[ids >= 24000].any()
    assert np.abs(first.astype(int) - image)[ids < 24].mean() < 0.5
    for wrong in ("dim_000002_000019", "dim_000000_000001", "dim"):
        with pytest.raises(ValueError, match="no frame of a demo city"):
            repainted_frame(wrong, settings, "train", 0)


@pytest.mark.slow
def test_every_class_is_there_and_rare_ones_are_rare(scenes):
    counts = dict.fromkeys(CITYSCAPES.classes, 0)
    for scene in scenes:
        for kind in scene.attributes.values():
            counts[kind.class_name] += 1
    assert min(counts.values()) >= 3
    assert counts["car"] > 3 * counts["train"]
    ids = np.concatenate([np.unique(scene.ids) for scene in scenes])
    assert (ids[ids >= 1000] % 256 == 0).any()
    assert np.isin([CITYSCAPES.by_name["person"].id, CITYSCAPES.by_name["bicycle"].id], ids).any()


@pytest.mark.slow
def test_attributes_and_ids_agree(scenes):
    for scene in scenes:
        index = instance_index(scene.ids, labels=CITYSCAPES)
        single = index[~index["is_group"]].set_index("value")
        assert set(single.index) == set(scene.attributes)
        assert (single["area"] >= 10).all()
        for value, kind in scene.attributes.items():
            assert single.loc[value, "class_name"] == kind.class_name
            assert kind.color in caption(kind)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_written_city_reads_back(tmp_path):
    settings = DemoCitySettings(width=256, height=128, frames_per_city=3, seed=1)
    assert write_demo_city(tmp_path, "train", "elm", settings) == 3
    for frame, (frame_id, image, ids) in zip(list_frames(tmp_path, "elm"), city_frames("elm", settings), strict=True):
        assert frame.frame_id == frame_id
        stored = read_frame(frame)
        np.testing.assert_array_equal(stored[0], image)
        np.testing.assert_array_equal(stored[1], ids)
