import numpy as np
import pytest

import instsynth_dagster.demo.city
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.demo.pretraining import scenes
from instsynth_dagster.demo.pretraining.scenes import BoxScenes, instance_crops, labelled_boxes, render_scenes
from tests.demo.pretraining.toy_scenes import toy_scene


@pytest.fixture
def store(tmp_path, monkeypatch):
    calls = []

    def render(seed, width, height, class_weights=None, palette="full"):
        calls.append(seed)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return toy_scene(seed, width, height)

    monkeypatch.setattr(instsynth_dagster.demo.city, "render_scene", render, raising=False)
    store = Store(tmp_path, rows_per_part=2)
    with pytest.raises(KeyboardInterrupt):
        render_scenes(store, 7, seed=3)
    render_scenes(store, 7, seed=3)
    assert len(calls) == 4 + 1 + 3  # four scenes, the killed one, and only the missing three
    render_scenes(store, 7, seed=3)
    assert len(calls) == 8
    store.seeds = calls[:4] + calls[5:]
    return store


def test_killed_rendering_goes_on_and_scenes_come_back_in_order(store):
    box_scenes = BoxScenes(store)
    assert len(box_scenes) == 7
    assert len(set(store.seeds)) == 7
    for index, seed in enumerate(store.seeds):
        assert np.array_equal(box_scenes[index][0], toy_scene(seed, *scenes.SIZE).image)
    assert np.array_equal(BoxScenes(store, 5)[1][0], box_scenes[6][0])
    assert len(BoxScenes(store, 0, 5)) == 5


def test_masks_are_boxes_smaller_on_top(store):
    x = store.seeds[0] % 40
    ids = BoxScenes(store)[0][1]
    assert ids.dtype == np.int32
    assert (ids[25:75, 60 + x : 80 + x] == 24000).all()
    assert (ids[20:60, 10 + x : 60 + x] == 26000).all()  # the hole is filled: no mask left the renderer
    assert set(np.unique(ids).tolist()) == {0, 7, 24000, 26000}
    assert (ids[150:] == 7).all()  # stuff around the boxes
    assert not ids[100:120, 100:140].any()  # a crowd is neither


def test_boxes_are_tight_labelled_and_without_groups():
    scene = toy_scene(0, 512, 256)
    boxes = labelled_boxes(scene.ids, scene.attributes)
    assert boxes == [
        {"value": 24000, "class_name": "person", "color": "red", "x1": 60, "y1": 25, "x2": 80, "y2": 75},
        {"value": 26000, "class_name": "car", "color": "green", "x1": 10, "y1": 20, "x2": 90, "y2": 60},
    ]


def test_crops_show_what_their_names_say(store):
    crops = list(instance_crops(BoxScenes(store), 32))
    assert len(crops) == 14
    channel = {"red person": 0, "green car": 1}
    for crop, name in crops:
        assert crop.shape == (32, 32, 3)
        assert crop[16, 8 if name == "green car" else 16, channel[name]] > 150
