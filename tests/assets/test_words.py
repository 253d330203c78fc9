"""Words of frames and instances in prompts: where they come from, and what is made again when they change."""

from __future__ import annotations

from typing import Any

import pytest

from instsynth_dagster.synthesis.lighting import lighting_words
from tests.assets.test_graph import Project
from tests.tiny_captioner import save_tiny_captioner
from tests.tiny_pipelines import save_tiny_inpainting


@pytest.mark.slow
def test_prompts_hold_the_light_of_the_frame_and_the_caption_of_the_instance(tmp_path):
    project = Project(tmp_path)
    model, captioner = save_tiny_inpainting(tmp_path / "tiny"), save_tiny_captioner(tmp_path / "captioner")
    given: dict[str, Any] = {
        "classes": ["person", "car"],
        "prompts": {"car": {"templates": ["a car {lighting}"]}, "person": {"templates": ["a person, {description}"]}},
        "captions": {"model": str(captioner), "max_tokens": 3},
        "generators": {"paint": {"kind": "diffinpainting", "model": str(model), "size": 32, "steps": 1}},
    }
    made = {asset for asset, _ in project.refresh(**given)}
    assert {"lighting", "captions", "paint/inpainted_crops"} <= made
    store = project.store
    captions = store.read("captions", "ashford|person").set_index("instance_id")["description"]
    people = store.read("paint/inpainted_crops", "ashford|person").set_index("instance_id")["prompt"]
    assert len(people) == 2
    assert people.to_dict() == {name: f"a person, {text}" for name, text in captions.items()}
    light = store.read("lighting", "ashford").set_index("frame_id")["lighting"]
    cars = store.read("paint/inpainted_crops", "ashford|car").set_index("frame_id")["prompt"]
    assert cars.to_dict() == {frame: f"a car {light[frame]}" for frame in cars.index}
    assert set(light) <= {lighting_words.__globals__[name] for name in ("DAY", "SUN", "DIM")}

    assert project.refresh(**given) == []
    longer = given | {"captions": given["captions"] | {"max_tokens": 5}}
    again = project.refresh(**longer)
    assert {asset for asset, _ in again} >= {"captions", "paint/inpainted_crops"}
    assert {partition.split("|")[1] for asset, partition in again if asset.startswith(("captions", "paint/in"))} == {
        "person"
    }
    assert not {"lighting", "prompt_bank", "selected_instances"} & {asset for asset, _ in again}
    repainted = longer | {"generators": {"paint": given["generators"]["paint"] | {"steps": 2}}}
    assert not {"lighting", "captions"} & {asset for asset, _ in project.refresh(**repainted)}
