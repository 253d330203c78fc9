"""A section `dataset` as the graph opens it: the survey, and the id map of each frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from instsynth_dagster.data.annotated_data import AnnotatedData, ImagesAsRead
from instsynth_dagster.data.index import Survey
from instsynth_dagster.data.opening import open_index
from instsynth_dagster.settings.formats import DatasetSettings

SIZE = (64, 48)


def opened(local: Path, **section: Any) -> tuple[Survey, dict[str, np.ndarray]]:
    """The survey of a data set, and ids int32 (H, W) by frame id; index and cache lie below `local`."""
    dataset = TypeAdapter(DatasetSettings).validate_python(section)
    index = open_index(dataset, local)
    survey = index.survey()
    data = AnnotatedData(ImagesAsRead(dataset.root, dataset.overlap, dataset.orientation), survey.labels, index)
    cities = (*survey.train_cities, *survey.val_cities)
    return survey, {name: data.image_and_ids(name)[1] for city in cities for name in data.frame_ids(city)}


def pixels(survey: Survey, ids: np.ndarray) -> dict[str, list[int]]:
    """Pixels of each single object by class, and of groups by `class group`; background is left out."""
    found: dict[str, list[int]] = {}
    for value in np.unique(ids).tolist():
        label = survey.labels.label_of(value)
        if label.id:
            name = label.name if value >= survey.labels.factor else f"{label.name} group"
            found.setdefault(name, []).append(int((ids == value).sum()))
    return found


def rectangle(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """bool (H, W)."""
    mask = np.zeros(size[::-1], dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask
