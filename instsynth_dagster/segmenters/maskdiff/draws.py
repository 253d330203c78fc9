"""Training pairs of MaskDiff: a region with its mask, and shots of the same class from other images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from instsynth_dagster.data.instances import instance_areas
from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import SegmentationDataset
from instsynth_dagster.segmenters.maskdiff.config import MaskDiffConfig
from instsynth_dagster.segmenters.shared.imagenet import as_pixels, normalised, shown
from instsynth_dagster.segmenters.shared.regions import cut_regions, enlarged
from instsynth_dagster.segmenters.shared.sampling import DrawSchedule
from instsynth_dagster.settings import SegmenterSettings

_TRIES = 50
_SHOT_BYTES = 64 << 20
"""Bytes of shots that a stream of draws keeps in memory."""


def shot_of(image: np.ndarray, mask: np.ndarray, config: MaskDiffConfig) -> Tensor:
    """An example of a class: (4, R, R), the instance's colours on a background of 0, and its mask in -1..1."""
    box = enlarged(torch.tensor([mask_box(mask)], dtype=torch.float32), config.pad)
    image, mask, box = _near(image, mask, box)
    colours, mask_there = _cut(image, mask, box, config.region, blank=True)
    return torch.cat([colours, mask_there])


def _cut(image: np.ndarray, mask: np.ndarray, box: Tensor, side: int, *, blank: bool = False) -> tuple[Tensor, Tensor]:
    """Normalised colours (3, R, R), with `blank` 0 outside the mask, and mask (1, R, R) in -1..1 of a box (1, 4)."""
    inside = torch.from_numpy(mask)[None].float()
    pixels = normalised(as_pixels(image))
    planes = cut_regions(torch.cat([pixels * inside if blank else pixels, inside]), box, side)[0]
    return planes[:3], 2 * planes[3:] - 1


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Context with torch's global generator at a seed, restored on exit; `fork_rng` and `manual_seed` query GPUs on
    every call, which costs as much as cutting the region.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _near(image: np.ndarray, mask: np.ndarray, box: Tensor) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """The parts of image and mask that a box (1, 4) covers, and the box relative to them: the rest need not be
    converted.
    """
    x1, y1, x2, y2 = box[0].tolist()
    left, top = max(0, int(x1) - 2), max(0, int(y1) - 2)
    part = np.s_[top : int(y2) + 3, left : int(x2) + 3]
    return image[part], mask[part], box - box.new_tensor([left, top, left, top])


class Instances:
    """The instances of a data set that are large enough for training, searched sample by sample and remembered."""

    def __init__(self, dataset: SegmentationDataset, classes: Sequence[str], min_side: int) -> None:
        self.dataset = dataset
        self._label_ids = dataset.labels.ids_of(classes)
        self._min_side = min_side
        self._large: dict[int, dict[int, dict[int, bool]]] = {}

    def pick(self, index: int, rng: np.random.Generator, only: int | None = None) -> tuple[int, int] | None:
        """Class index and id of an instance of a sample: a random class (or the given one), then a random instance of
        it; None where none is large enough.
        """
        if index not in self._large:
            self._large[index] = self._search(self.dataset[index][1])
        large = self._large[index]
        for label in rng.permutation(list(large) if only is None else [only]).tolist():
            for value in rng.permutation(list(large.get(label, []))).tolist():
                if large[label][value]:
                    return label, value
        return None

    def _search(self, ids: np.ndarray) -> dict[int, dict[int, bool]]:
        """Whether each instance is large enough, by class index and id."""
        labels, found = self.dataset.labels, {}
        values = np.array([value for value in instance_areas(ids) if value >= labels.factor], dtype=np.int64)
        for label, label_id in enumerate(self._label_ids):
            of_class = values[labels.label_ids(values) == label_id].tolist()
            if of_class:
                found[label] = {value: self._is_large(ids == value) for value in of_class}
        return found

    def _is_large(self, mask: np.ndarray) -> bool:
        x1, y1, x2, y2 = mask_box(mask)
        return min(x2 - x1, y2 - y1) >= self._min_side

    def others(self, label: int, without: int, rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
        """(sample, id) of `count` instances of a class, from as many samples as possible, never from sample
        `without`.
        """
        column = np.flatnonzero(self.dataset.classes_in[:, label])
        found: list[tuple[int, int]] = []
        for index in rng.permutation(column[column != without]).tolist()[: count + _TRIES]:
            picked = self.pick(index, rng, label)
            if picked:
                found.append((index, picked[1]))
            if len(found) == count:
                break
        return [found[number % len(found)] for number in range(count)] if found else []

    def shot(self, index: int, value: int, config: MaskDiffConfig) -> Tensor:
        """See `shot_of`."""
        image, ids = self.dataset[index]
        return shot_of(image, ids == value, config)


class RegionDraws(Dataset):
    """The stream of regions of a training; item i is a pure function of (seed, i).

    An item: masks float32 (1, R, R) in -1..1, regions (3, R, R), shots (K, 4, R, R), class_labels int64 ().
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        settings: SegmenterSettings,
        config: MaskDiffConfig,
        seed: int,
        draws: int,
    ) -> None:
        self._instances = Instances(dataset, config.classes, config.min_side)
        self._schedule = DrawSchedule(dataset.is_synthetic, settings.synthetic_fraction, seed)
        # a shot is the same every time it is cut; 16: four float32 planes
        self._shot = lru_cache(maxsize=_SHOT_BYTES // (16 * config.region**2))(
            partial(self._instances.shot, config=config)
        )
        self._config, self._seed, self._draws = config, seed, draws
        self._color = v2.RandomApply([v2.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)], p=0.8)

    def __len__(self) -> int:
        return self._draws

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        for attempt in range(_TRIES):
            # an image without instances is replaced by one of a later draw
            item = self._region(
                draw + attempt * self._draws, np.random.default_rng(content_seed(self._seed, draw, attempt))
            )
            if item is not None:
                return item
        raise SettingsError(
            f"segmenters: {_TRIES} images in a row hold no two instances of one class of at least "
            f"{self._config.min_side} pixels; lower architecture.min_side or add frames"
        )

    def _region(self, draw: int, rng: np.random.Generator) -> dict[str, Tensor] | None:
        config, index = self._config, self._schedule[draw]
        picked = self._instances.pick(index, rng)
        if picked is None:
            return None
        label, value = picked
        shots = self._instances.others(label, index, rng, config.shots if config.shots_mode == "concat" else 1)
        if not shots:
            return None
        image, ids = self._instances.dataset[index]
        mask = ids == value
        box = enlarged(self._jittered(mask, rng), config.pad)
        image, mask, box = _near(image, mask, box)
        region, mask_there = _cut(image, mask, box, config.region)
        with _seeded(content_seed(self._seed, "colour", draw)):
            coloured = normalised(self._color(shown(region)))
        flips = [[-1], []][int(rng.integers(2))]
        return {
            "masks": mask_there.flip(flips),
            "regions": coloured.flip(flips),
            "shots": torch.stack([self._shot(*shot) for shot in shots]),
            "class_labels": torch.tensor(label),
        }

    def _jittered(self, mask: np.ndarray, rng: np.random.Generator) -> Tensor:
        x1, y1, x2, y2 = mask_box(mask)
        reach = self._config.box_jitter * np.array([x2 - x1, y2 - y1] * 2)
        return torch.tensor(np.array([[x1, y1, x2, y2]]) + rng.uniform(-1, 1, 4) * reach, dtype=torch.float32)


def draw_shots(dataset: SegmentationDataset, config: MaskDiffConfig, seed: int) -> Tensor:
    """The K shots of each class for a trained model: float32 (C, K, 4, R, R); all 0 for a class that is missing in the
    data set.
    """
    instances = Instances(dataset, config.classes, config.min_side)
    shots = torch.zeros(len(config.classes), config.shots, 4, config.region, config.region)
    for label in range(len(config.classes)):
        rng = np.random.default_rng(content_seed(seed, "shots", label))
        for number, shot in enumerate(instances.others(label, -1, rng, config.shots)):
            shots[label, number] = instances.shot(*shot, config)
    return shots
