"""Instances repainted inside their own masks, and what that is worth for segmenters.

Without a graph: `from instsynth_dagster import repaint_instances` (docs/api.md). It is imported when it is asked for,
so that importing the package stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instsynth_dagster.synthesis.repainting import Repainting, repaint_instances

__all__ = ["Repainting", "repaint_instances"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from instsynth_dagster.synthesis import repainting

    return getattr(repainting, name)
