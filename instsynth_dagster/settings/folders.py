"""Folders in the settings that must not overlap, because files in them are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path


def check_disjoint(folders: Mapping[str, Path]) -> None:
    """Check that no folder equals another one or lies inside another one, links followed.

    Args:
        folders: by the keys that name them in the params file; relative ones are relative to the working directory.

    Raises:
        ValueError: two folders overlap; the message names their keys.
    """
    for (key, folder), (other_key, other) in combinations(folders.items(), 2):
        one, two = folder.resolve(), other.resolve()
        if one.is_relative_to(two) or two.is_relative_to(one):
            raise ValueError(
                f"{key} ({folder}) and {other_key} ({other}) overlap; give each of them a folder of its own, for files "
                "in them are replaced"
            )
