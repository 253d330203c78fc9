"""Procedural street scenes in Cityscapes layout."""

from instsynth_dagster.demo.city.frames import city_frames, repainted_frame, write_demo_city
from instsynth_dagster.demo.city.palette import Attributes, caption
from instsynth_dagster.demo.city.scene import Scene, render_scene

__all__ = ["Attributes", "Scene", "caption", "city_frames", "render_scene", "repainted_frame", "write_demo_city"]
