"""What every scene and every city keeps, whatever the size, the seed or the name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.demo.city import caption, city_frames, render_scene
from instsynth_dagster.settings import DemoCitySettings, load_settings

PARAMS = Path(__file__).parents[3] / "params.yaml"
STUFF = {"sky", "building", "road", "sidewalk", "vegetation", "terrain", "pole", "traffic sign", "traffic light"}


@pytest.fixture(scope="module", params=["alderford", "elm"])
def city(request):
    """(ids, instance index) of every frame of a city of 40."""
    frames = city_frames(request.param, DemoCitySettings(width=256, height=128))
    return [(ids, instance_index(ids, labels=CITYSCAPES)) for _, _, ids in frames]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(128, 64), (333, 177), (200, 400), (1024, 512)])
def test_any_size_is_drawn_whole(width, height):
    for seed in (0, 1, 2**63 - 1):
        scene = render_scene(seed, width, height)
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == np.uint8
        assert scene.ids.shape == (height, width)
        assert scene.ids.dtype == np.int32
        assert scene.ids.min() > 0
        assert np.isin(CITYSCAPES.label_ids(scene.ids), list(CITYSCAPES.by_id)).all()


@pytest.mark.slow
def test_a_city_holds_every_class_and_every_hard_case(city):
    counts: Counter[str] = Counter()
    stuff: set[str] = set()
    groups = cut = small = by_256 = 0
    for ids, index in city:
        single = index[~index["is_group"]]
        counts.update(single["class_name"])
        stuff.update(CITYSCAPES.by_id[label].name for label in np.unique(CITYSCAPES.label_ids(ids)).tolist())
        groups += int(index["is_group"].sum())
        cut += int(single["touches_border"].sum())
        small += int((single["area"] < 50).sum())
        by_256 += int((single["value"] % 256 == 0).sum())
    assert all(counts[name] >= 3 for name in CITYSCAPES.classes)
    assert min(counts["car"], counts["person"]) > 3 * max(counts[n] for n in ("truck", "bus", "train", "motorcycle"))
    assert stuff >= STUFF
    assert min(groups, cut, small, by_256) >= 3


@pytest.mark.slow
def test_instances_are_numbered_from_zero_per_class(city):
    for _, index in city:
        for _, same in index[~index["is_group"]].groupby("class_name"):
            assert (same["value"] % 1000).tolist() == list(range(len(same)))


@pytest.mark.slow
def test_a_rider_sits_on_a_two_wheeler():
    riders = seated = 0
    for seed in range(20):
        index = instance_index(render_scene(seed, 512, 256, {"rider": 4.0}).ids, labels=CITYSCAPES)
        mounts = index[index["class_name"].isin(["bicycle", "motorcycle"])]
        for rider in index[index["class_name"] == "rider"].itertuples():
            across = (mounts["x1"] < rider.x2) & (mounts["x2"] > rider.x1)
            below = (mounts["y2"] >= rider.y2 - 3) & (mounts["y1"] < rider.y2 + 3)
            riders += 1
            seated += bool((across & below).any())
    assert riders > 30
    assert seated >= 0.85 * riders  # the rest is hidden, or too small to be annotated


@pytest.mark.slow
def test_captions_are_the_prompts_of_the_demo():
    prompts = {
        name: {template.format(color=color) for template in section.templates for color in section.colors}
        for name, section in load_settings(PARAMS).prompts.items()
    }
    for seed in range(20):
        for kind in render_scene(seed, 256, 128).attributes.values():
            assert caption(kind) in prompts[kind.class_name]


def test_unknown_class_weights_are_refused():
    with pytest.raises(ValueError, match="tram not among"):
        render_scene(0, 256, 128, {"tram": 2.0})
