"""What every generator keeps, and how a partition of instances is repainted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from instsynth_dagster.images import decode_png, encode_png, resize_image
from instsynth_dagster.masks import decode_rle, resize_mask
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.prompts import choose_prompt


@dataclass(frozen=True)
class Capabilities:
    """What a backend can honour: a mask's own shape or only its box; its square size in pixels; soft mask edges."""

    mask_shaped: bool
    native_size: int
    soft_mask: bool


class Generator(Protocol):
    """A diffusion backend that fills masks."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def weights_digest(self) -> str:
        """sha256 over the weights, or the resolved revision of a hub model."""
        ...

    @property
    def scheduler(self) -> str: ...

    def fill(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        prompts: Sequence[str],
        subjects: Sequence[str],
        seeds: Sequence[int],
    ) -> np.ndarray:
        """Repaint a batch.

        Args:
            images: uint8 (N, S, S, 3) RGB, S the native size; masks: bool (N, S, S), True where to paint.
            prompts: N texts; subjects: N class names, for generators that ground a phrase; seeds: N numbers below
                2**63.

        Returns:
            uint8 (N, S, S, 3). A result depends on its own image, mask, prompt and seed only.
        """
        ...


def repaint(
    generator: Generator,
    name: str,
    selected: pd.DataFrame,
    bank: pd.DataFrame,
    settings: GeneratorSettings,
    base_seed: int,
    replicas: int = 1,
    skip: int = 0,
) -> Iterator[dict[str, Any]]:
    """Rows of `inpainted_crops`: every selected instance, `replicas` times, from row `skip` on.

    Instances are batched; the last batch is padded by repetition, because the same kernels must run whatever shares a
    batch if a crop is to be the same bit for bit.
    """
    jobs = [(row, replica) for row in selected.to_dict("records") for replica in range(replicas)]
    for start in range(skip, len(jobs), settings.batch_size):
        batch = jobs[start : start + settings.batch_size]
        prompts = [choose_prompt(bank, row["instance_id"], replica, base_seed) for row, replica in batch]
        seeds = [
            content_seed(row["instance_id"], prompt, name, replica, base_seed)
            for (row, replica), prompt in zip(batch, prompts, strict=True)
        ]
        inputs = [_native(row, generator.capabilities.native_size) for row, _ in batch]
        columns = [*zip(*inputs, strict=True), prompts, [row["class_name"] for row, _ in batch], seeds]
        crops, masks, texts, subjects, numbers = (
            [*column, *[column[-1]] * (settings.batch_size - len(batch))] for column in columns
        )
        started = time.monotonic()
        images = generator.fill(np.stack(crops), np.stack(masks), texts, subjects, numbers)
        seconds = (time.monotonic() - started) / len(batch)
        for (row, replica), prompt, seed, image in zip(batch, prompts, seeds, images[: len(batch)], strict=True):
            yield {
                "instance_id": row["instance_id"],
                "frame_id": row["frame_id"],
                "class_name": row["class_name"],
                "replica": replica,
                "prompt": prompt,
                "seed": seed,
                "generator": name,
                "weights_digest": generator.weights_digest,
                "scheduler": generator.scheduler,
                "steps": settings.steps,
                "guidance": settings.guidance,
                "strength": settings.strength,
                "image_png": encode_png(image),
                "device_seconds": seconds,
            }


def _native(row: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crop and mask of a selected instance at a generator's size."""
    crop = decode_png(row["crop_png"])
    mask = decode_rle({"size": list(crop.shape[:2]), "counts": row["mask_counts"]})
    return resize_image(crop, (size, size)), resize_mask(mask, size)
