"""Cities of a Cityscapes tree as a data set in memory, for benchmarks that train on the demo city."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, list_frames, read_frame

TRAIN, VAL = ("alderford", "brackwater", "cinderhill"), ("dunmere",)
"""Of the demo city."""


class Cities:
    """`SegmentationDataset` of all frames of some cities."""

    def __init__(self, root: Path, cities: tuple[str, ...]) -> None:
        self.frames = [read_frame(frame) for city in cities for frame in list_frames(root, city)]
        self.labels = CITYSCAPES
        self.is_synthetic = np.zeros(len(self.frames), dtype=bool)
        labels = [CITYSCAPES.by_name[name].id for name in CITYSCAPES.classes]
        self.classes_in = np.array([[(ids // 1000 == label).any() for label in labels] for _, ids in self.frames])

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.frames[index]
