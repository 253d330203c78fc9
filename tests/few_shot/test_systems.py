"""Recipes of fine-tuning."""

from __future__ import annotations

from pathlib import Path

from instsynth_dagster.few_shot.systems import tuning_recipe
from instsynth_dagster.settings import FewShotSystem


def test_a_detector_inside_the_base_system_stays_whole_when_it_is_tuned() -> None:
    detector = {"kind": "fastinst", "steps": 2, "max_detections": 7}
    base = {"kind": "maskdiff", "architecture": {"region": 32, "samples": 2, "detector": detector}}
    system = FewShotSystem.model_validate({"base": base, "tune": {"steps": 3, "architecture": {"min_side": 4}}})
    recipe = tuning_recipe(system, Path("base"), 5, None)
    assert recipe.architecture == {"samples": 2, "detector": detector, "min_side": 4, "shots": 5}
    assert (recipe.model, recipe.steps) == ("base", 3)
