"""A drawn toy data set and a Mask2Former small enough to train in a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.settings import SegmenterSettings

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
TINY_ARCHITECTURE = {
    "backbone_config": TINY_RESNET,
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "encoder_feedforward_dim": 32,
    "dim_feedforward": 32,
    "num_queries": 6,
    "train_num_points": 64,
}


class ToyDataset:
    """Red persons and green cars as rectangles on noise, one crowd, one id divisible by 256."""

    def __init__(self, length: int = 6, synthetic: int = 0, size: tuple[int, int] = (72, 104)) -> None:
        self.labels = CITYSCAPES
        self.is_synthetic = [index >= length - synthetic for index in range(length)]
        self.classes_in = np.ones((length, 3), dtype=bool)
        self._size = size

    def __len__(self) -> int:
        return len(self.is_synthetic)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(index)
        image = generator.integers(0, 60, (*self._size, 3), dtype=np.uint8)
        ids = np.full(self._size, 7, dtype=np.int32)
        for value, color in ((24000, (200, 30, 30)), (26001, (30, 200, 30)), (32000, (40, 40, 220)), (24, (90, 0, 0))):
            y, x = generator.integers(0, self._size[0] - 20), generator.integers(0, self._size[1] - 24)
            ids[y : y + 20, x : x + 24] = value
            image[y : y + 20, x : x + 24] = color
        return image, ids


def tiny(**changes: Any) -> SegmenterSettings:
    values: dict[str, Any] = {
        "kind": "mask2former",
        "architecture": TINY_ARCHITECTURE,
        "steps": 4,
        "batch_size": 2,
        "crop": (64, 96),
        "learning_rate": 1e-3,
        "checkpoint_every": 2,
        "max_detections": 12,
    }
    return SegmenterSettings.model_validate(values | changes)
