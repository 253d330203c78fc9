"""Instances repainted inside their own masks, and their effect on segmenters.

The function `repaint_instances` (docs/api.md) works without the graph. It is imported on first use, so that importing
the package stays cheap.
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
