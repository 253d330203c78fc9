"""The images that serve as shots of a novel class: seeded and nested lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instsynth_dagster.few_shot.folds import Candidate
from instsynth_dagster.seeds import content_seed

MIN_AREA = 16 * 32 * 32
"""Least number of pixels of the class in a shot (BAM, DIaM)."""


def draw_shots(
    candidates: Sequence[Candidate],
    novel: int | str,
    shots: int,
    seed: int,
    *,
    novel_classes: Collection[int | str] = (),
    min_area: int = MIN_AREA,
) -> list[str]:
    """Ids of `shots` images that show a class.

    Images with at least `min_area` pixels of it and of no other novel class are eligible; where there is none, any
    image of the class. The draw of K shots is a prefix of any larger draw; if there are too few candidates they are
    repeated.

    Raises:
        ValueError: no image shows the class.
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
