"""mini-resnet: an "ImageNet in miniature" for the demo's segmenters.

A small ResNet learns to name class and colour of procedural instance crops ("red car") from image labels alone. Each
training image is a collage: a grid of 1, 4 or 16 crops, every one named from the features under its own tile. Objects
are thus seen at 20 to 100 pixels, and the feature maps learn to say *where* something is without ever seeing a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train

CANVAS = 128
GRIDS = (1, 2, 4)
"""Tiles per side of a collage; 4 makes one tile per cell of the coarsest feature map (stride 32)."""

ARCHITECTURE: dict[str, Any] = {
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128, 160],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
}


RECIPE = Recipe(steps=6000, batch_size=8, learning_rate=2e-3)


class Collages(Dataset):
    """Collage number i as a pure function of (seed, i).

    An item is pixel_values uint8 (3, CANVAS, CANVAS) and labels int64 (g, g), g from `GRIDS`, the same for all items of
    a batch.
    """

    def __init__(self, crops: np.ndarray, labels: np.ndarray, seed: int, collages: int, batch_size: int) -> None:
        self._crops, self._labels = crops, labels
        self._seed, self._collages, self._batch_size = seed, collages, batch_size

    def __len__(self) -> int:
        return self._collages

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        grid = GRIDS[index // self._batch_size % len(GRIDS)]
        generator = np.random.default_rng(content_seed(self._seed, "collage", index))
        chosen = np.sort(generator.choice(len(self._crops), grid * grid, replace=False))
        generator.shuffle(chosen)
        crops = torch.from_numpy(np.stack([self._crops[i] for i in chosen])).permute(0, 3, 1, 2)
        if generator.random() < 0.5:
            crops = crops.flip(3)
        side = CANVAS // grid
        tiles = F.interpolate(crops.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
        tiles = tiles * torch.from_numpy(generator.uniform(0.7, 1.3, (len(chosen), 1, 1, 1))).float()
        canvas = tiles.reshape(grid, grid, 3, side, side).permute(2, 0, 3, 1, 4).reshape(3, CANVAS, CANVAS)
        return {
            "pixel_values": canvas.round().clamp(0, 255).to(torch.uint8),
            "labels": torch.from_numpy(self._labels[chosen]).reshape(grid, grid),
        }


class CollageClassifier(nn.Module):
    """Names every tile of a collage, from the last stage by the classifier that ships and from the two before by
    auxiliary ones, so that the finer maps know classes too."""

    def __init__(self, model: transformers.ResNetForImageClassification) -> None:
        super().__init__()
        self.model = model
        self.auxiliary = nn.ModuleList(
            nn.Linear(width, len(model.config.id2label or {})) for width in ARCHITECTURE["hidden_sizes"][1:3]
        )

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        *_, stage2, stage3, stage4 = self.model.resnet(normalise(pixel_values), output_hidden_states=True).hidden_states
        heads = (*self.auxiliary, self.model.classifier[1])
        losses = [
            F.cross_entropy(head(tile_features(stage, labels.shape[1])).flatten(0, 2), labels.flatten())
            for head, stage in zip(heads, (stage2, stage3, stage4), strict=True)
        ]
        return {"loss": losses[-1] + 0.5 * losses[0] + 0.5 * losses[1]}


def tile_features(features: Tensor, grid: int) -> Tensor:
    """Mean feature under each tile: (B, C, h, w) -> (B, grid, grid, C)."""
    return F.adaptive_avg_pool2d(features, grid).permute(0, 2, 3, 1)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 with ImageNet's mean and deviation."""
    mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.float() / 255 - mean) / std


def train_backbone(
    crops: np.ndarray,
    names: Sequence[str],
    *,
    out: Path,
    scratch: Path,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train mini-resnet and write it as a standard image classifier (fp16 safetensors).

    Args:
        crops: uint8 (N, S, S, 3) RGB, one instance in the middle of each; may be memory-mapped.
        names: N labels such as "red car".
        out: the `from_pretrained` folder to fill.
        scratch: state of an unfinished training; the same call goes on from there.
    """
    vocabulary, labels = np.unique(np.asarray(names), return_inverse=True)
    with isolated_random_state(), quiet_transformers():
        torch.manual_seed(content_seed(seed, "initialisation"))
        config = transformers.ResNetConfig(
            **ARCHITECTURE,
            id2label=dict(enumerate(vocabulary.tolist())),
            label2id={name: index for index, name in enumerate(vocabulary.tolist())},
        )
        classifier = CollageClassifier(transformers.ResNetForImageClassification(config))
    log = train(
        classifier,
        Collages(crops, labels, seed, recipe.steps * recipe.batch_size, recipe.batch_size),
        recipe,
        collate=torch.utils.data.default_collate,
        seed=seed,
        scratch=scratch,
        device=device,
        progress=progress,
    )
    with quiet_transformers():
        classifier.model.eval().to("cpu").half().save_pretrained(out)
        transformers.ViTImageProcessor(
            size={"height": CANVAS, "width": CANVAS}, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
        ).save_pretrained(out)
    return FitResult(out, log.curve, log.seconds, log.peak_memory)


@torch.inference_mode()
def measure_accuracy(folder: Path, crops: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Top-1 accuracy of colour and class together, and of the class alone, for single crops of `CANVAS` pixels."""
    with quiet_transformers():
        model = transformers.ResNetForImageClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
    predicted: list[str] = []
    for start in range(0, len(crops), 64):
        pixels = torch.from_numpy(np.ascontiguousarray(crops[start : start + 64])).permute(0, 3, 1, 2).float()
        pixels = F.interpolate(pixels, (CANVAS, CANVAS), mode="bilinear", antialias=True, align_corners=False)
        predicted += [model.config.id2label[i] for i in model(normalise(pixels)).logits.argmax(1).tolist()]
    return {
        "name": float(np.mean([p == n for p, n in zip(predicted, names, strict=True)])),
        "class": float(np.mean([p.split()[-1] == n.split()[-1] for p, n in zip(predicted, names, strict=True)])),
    }
