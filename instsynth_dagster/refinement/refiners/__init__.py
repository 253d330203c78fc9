"""Refiners of borders: GrabCut without weights, Segment Anything with weights."""

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
    """The refiner of the settings, with its weights loaded.

    Raises:
        CheckpointError: its weights cannot be loaded, or do not match the digest.
        SettingsError: its package is not installed.
    """
    module, name = _KINDS[settings.kind].split(":")
    kind: Any = getattr(import_module(f"{__name__}.{module}"), name)
    return kind(settings, device)
