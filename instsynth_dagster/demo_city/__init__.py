"""Procedural street scenes in Cityscapes layout."""

from instsynth_dagster.demo_city.attributes import Attributes, caption
from instsynth_dagster.demo_city.scene import Scene, city_frames, render_scene, write_demo_city

__all__ = ["Attributes", "Scene", "caption", "city_frames", "render_scene", "write_demo_city"]
