"""What can redraw a border: GrabCut without weights, Segment Anything with them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from instsynth_dagster.refinement.boundary import Refiner
from instsynth_dagster.settings import BoundarySettings

_KINDS = {
    "grabcut": "grabcut:GrabCut",
    "sam": "sam:Sam",
    "segment_anything": "segment_anything:SegmentAnything",
}


def build_refiner(settings: BoundarySettings, device: str) -> Refiner:
    """The refiner of the settings, its weights loaded.

    Raises:
        CheckpointError: its weights cannot be loaded, or are not those of the digest.
        SettingsError: its package is not installed.
    """
    module, name = _KINDS[settings.kind].split(":")
    kind: Any = getattr(import_module(f"{__name__}.{module}"), name)
    return kind(settings, device)
