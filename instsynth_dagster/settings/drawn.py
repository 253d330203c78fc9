"""A check against misspelled city names: a demo renders every city that its settings name, so a typing error would add
one.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings.data import CityscapesTree

_ALIKE = 0.8
"""Similarity ratio of two names from which one may be a misspelling of the other."""


def drawn_cities(root: Path) -> set[str]:
    """Cities with a folder of images in a Cityscapes tree."""
    return {path.name for path in root.glob("leftImg8bit/*/*") if path.is_dir()}


def check_spelling(dataset: CityscapesTree) -> None:
    """Check that no city that a demo would render anew has nearly the name of a rendered city that the settings do not
    name.

    Raises:
        SettingsError: there is one; the message names the list, both cities, and both remedies.
    """
    if dataset.demo_city is None:
        return
    drawn = drawn_cities(dataset.root)
    lists = {role: getattr(dataset, role) for role in ("train_cities", "val_cities", "test_cities")}
    forgotten = drawn - {city for cities in lists.values() for city in cities}
    for role, cities in lists.items():
        for city in cities:
            alike = [] if city in drawn else get_close_matches(city, sorted(forgotten), n=1, cutoff=_ALIKE)
            if alike:
                raise SettingsError(
                    f"dataset.{role}: {city} is not drawn yet, and {alike[0]}, which is drawn, is named nowhere;"
                    f" correct the spelling, or remove the folders of {alike[0]} below {dataset.root} if a new city is"
                    " meant"
                )
