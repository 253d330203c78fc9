"""Settings of anonymised data sets, in which every object of chosen classes has lost its pixels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from instsynth_dagster.settings.base import Distinct, Name, Section


class AnonymiseSettings(Section):
    """Settings of anonymisation. Every object of `classes`, of any size and in any split, loses its pixels: instances
    are repainted by a generator; groups, small instances and rejected repaintings become coarse
    (synthesis/anonymise.py).
    """

    generator: Name = Field(description="one of `generators`")
    classes: Distinct[str] = Field(
        min_length=1,
        description="labels of the data set; one outside the params file's `classes` is always coarse",
    )
    dilation: int = Field(3, ge=0, le=64, description="pixels around each mask that are replaced as well")
    min_area: int = Field(64, ge=1, description="pixels; instances below it are not painted")
    otherwise: Literal["pixelate", "blur"] = Field("pixelate", description="what is done where nothing is painted")
    cells: int = Field(
        6, ge=1, le=32, description="along the longer side of an object that is pixelated; a blur is as coarse"
    )
