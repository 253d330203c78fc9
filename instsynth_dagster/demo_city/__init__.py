"""Procedural street scenes in Cityscapes layout."""

from instsynth_dagster.demo_city.frames import city_frames, write_demo_city
from instsynth_dagster.demo_city.palette import Attributes, caption
from instsynth_dagster.demo_city.scene import Scene, render_scene

__all__ = ["Attributes", "Scene", "caption", "city_frames", "render_scene", "write_demo_city"]
