"""Training samples: scale jitter, crop, flip and colour jitter, then one mask per instance.

The id map passes through the transforms as one `tv_tensors.Mask` and is split into instances after the crop, which
costs a fraction of transforming a stack of masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import SegmentationDataset
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.shared.sampling import DrawSchedule, repeat_factors
from instsynth_dagster.settings import SegmenterSettings


class RandomScaleCrop(v2.Transform):
    """A random window that, scaled by a random factor, has exactly the size of the crop.

    Equal to scaling the whole image and cropping, but without the scaled image in memory. Where the scaled image is
    smaller than the crop, the right and the bottom are filled with the mean colour and the id 0 (unlabeled).
    """

    def __init__(self, crop: tuple[int, int], scale_range: tuple[float, float]) -> None:
        super().__init__()
        self.crop = crop
        self.scale_range = scale_range

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        source = F.get_size(flat_inputs[0])
        low, high = self.scale_range
        scale = low + (high - low) * torch.rand(()).item()
        window = [min(side, max(1, round(crop / scale))) for side, crop in zip(source, self.crop, strict=True)]
        size = [
            crop if taken < side else min(crop, max(1, round(side * scale)))
            for side, taken, crop in zip(source, window, self.crop, strict=True)
        ]
        top, left = (
            int(torch.randint(side - taken + 1, ()).item()) for side, taken in zip(source, window, strict=True)
        )
        return {"top": top, "left": left, "height": window[0], "width": window[1], "size": size}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        scaled = F.resized_crop(inpt, **params)
        bottom, right = (crop - side for crop, side in zip(self.crop, params["size"], strict=True))
        fill = [round(255 * mean) for mean in IMAGENET_MEAN] if isinstance(inpt, tv_tensors.Image) else 0
        return F.pad(scaled, [0, 0, right, bottom], fill=fill)


def training_transform(crop: tuple[int, int], scale_range: tuple[float, float]) -> v2.Transform:
    """Scale jitter, crop (height, width), flip, colour jitter and ImageNet normalisation, as in Mask2Former's
    recipe.
    """
    return v2.Compose(
        [
            RandomScaleCrop(crop, scale_range),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)], p=0.8),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def instance_targets(ids: Tensor, classes: Sequence[str], labels: LabelTable) -> tuple[Tensor, Tensor]:
    """Masks and classes of the instances of the given classes in an id map; groups and all other ids are background.

    Args:
        ids: int (H, W), an id map.
        labels: label table of the data set.

    Returns:
        masks float32 (N, H, W) of 0 and 1, ordered by id, and class indices int64 (N,) into `classes`.
    """
    class_of = {labels.id_of(name): index for index, name in enumerate(classes)}
    factor = labels.factor
    values = [value for value in ids.unique().tolist() if value >= factor and value // factor in class_of]
    masks = ids[None] == torch.tensor(values, dtype=ids.dtype)[:, None, None]
    return masks.float(), torch.tensor([class_of[value // factor] for value in values], dtype=torch.int64)


def ignored_objects(ids: Tensor, labels: LabelTable) -> Tensor:
    """Masks float32 (M, H, W) of the groups in an id map, connected pieces separately; their instances are unknown, so
    they may be counted neither as instances nor as background.
    """
    groups = sorted(set(ids.unique().tolist()) & set(labels.thing_ids.tolist()))
    masks = [torch.zeros(0, *ids.shape)]
    for value in groups:
        count, pieces = cv2.connectedComponents((ids == value).numpy().astype(np.uint8), connectivity=8)
        masks.append((torch.from_numpy(pieces)[None] == torch.arange(1, count)[:, None, None]).float())
    return torch.cat(masks)


Targets = Callable[[Tensor], dict[str, Any]]
"""Maps an id map, int32 (H, W), to the targets of a segmenter: at least mask_labels and class_labels. Random numbers
come from torch's global generator, which is seeded for each draw."""


def instances_only(classes: Sequence[str], labels: LabelTable) -> Targets:
    """`Targets` of a segmenter that is trained on instances only."""

    def targets(ids: Tensor) -> dict[str, Any]:
        masks, indices = instance_targets(ids, classes, labels)
        return {"mask_labels": masks, "class_labels": indices}

    return targets


class TrainingDraws(Dataset):
    """The endless augmented stream of a training, cut to `draws` items; item i is a pure function of (seed, i).

    An item is a dict of pixel_values float32 (3, h, w), mask_labels float32 (N, h, w), class_labels int64 (N,), and
    further entries of `targets`. Neither the number of workers nor a resume changes it.
    """

    def __init__(
        self, dataset: SegmentationDataset, settings: SegmenterSettings, targets: Targets, seed: int, draws: int
    ) -> None:
        self._dataset = dataset
        self._targets = targets
        self._seed = seed
        self._draws = draws
        threshold = settings.repeat_threshold
        repeats = None if threshold is None else repeat_factors(dataset.classes_in, threshold)
        self._schedule = DrawSchedule(dataset.is_synthetic, settings.synthetic_fraction, seed, repeats)
        self._transform = training_transform(settings.crop, settings.scale_range)

    def __len__(self) -> int:
        return self._draws

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        image, ids = self._dataset[self._schedule[draw]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(content_seed(self._seed, "augmentation", draw))
            pixels, ids_map = self._transform(
                tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)),
                tv_tensors.Mask(torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int32))),
            )
            targets = self._targets(ids_map.as_subclass(Tensor))
        return {"pixel_values": pixels.as_subclass(Tensor), **targets}


class FixedViews(Dataset):
    """The first draws of a training, repeated in a new random order each time; item i is a pure function of (seed, i).

    Each item has `view` int64 (), the same for equal pixels, so that values computed from these can be cached.

    Args:
        stream: at least `views` items.
        draws: total number of items.
    """

    def __init__(self, stream: TrainingDraws, views: int, seed: int, draws: int) -> None:
        self._stream, self._views, self._seed, self._draws = stream, views, seed, draws
        self._order = lru_cache(maxsize=2)(partial(_permutation, seed, views))

    def __len__(self) -> int:
        return self._draws

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        epoch, position = divmod(draw, self._views)
        view = int(self._order(epoch)[position])
        return {**self._stream[view], "view": torch.tensor(view)}


def _permutation(seed: int, length: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)


def collate(items: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Stack the pixels; masks and labels stay lists, one entry per image."""
    return {
        "pixel_values": torch.stack([item["pixel_values"] for item in items]),
        "mask_labels": [item["mask_labels"] for item in items],
        "class_labels": [item["class_labels"] for item in items],
    }
