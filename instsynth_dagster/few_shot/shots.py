"""Which images are shown of a novel class: seeded, nested, the same for everyone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instsynth_dagster.few_shot.folds import Candidate
from instsynth_dagster.seeds import content_seed

MIN_AREA = 16 * 32 * 32
"""Pixels of the class that a shot must show (BAM, DIaM)."""


def draw_shots(
    candidates: Sequence[Candidate],
    novel: int | str,
    shots: int,
    seed: int,
    *,
    novel_classes: Collection[int | str] = (),
    min_area: int = MIN_AREA,
) -> list[str]:
    """Image ids of `shots` images that show a class.

    Eligible are images with at least `min_area` pixels of it and of no other novel class; where there is none, any
    image of the class. The first K of a larger draw are the draw of K shots; too few candidates come again.

    Raises:
        ValueError: no image shows the class at all.
    """
    showing = [candidate for candidate in candidates if candidate.areas.get(novel, 0) > 0]
    if not showing:
        raise ValueError(f"no image shows {novel!r}")
    others = set(novel_classes) - {novel}
    eligible = [
        candidate
        for candidate in showing
        if candidate.areas[novel] >= min_area and not others & {name for name, area in candidate.areas.items() if area}
    ]
    ranked = sorted(
        (candidate.image_id for candidate in eligible or showing),
        key=lambda image_id: content_seed("shot", seed, str(novel), image_id),
    )
    return [ranked[number % len(ranked)] for number in range(shots)]
