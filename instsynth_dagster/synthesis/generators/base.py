"""The interface of every generator, and the repainting of a partition of instances."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.costs import Meter
from instsynth_dagster.data.images import decode_png, encode_png, png_size, resize_image
from instsynth_dagster.data.masks import cover_mask, decode_rle
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.failures import Tally, failure_reason
from instsynth_dagster.synthesis.overlap import map_ahead
from instsynth_dagster.synthesis.prompts import choose_prompt, filled_in

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of a generator: whether it follows the shape of a mask or only its box, its native square size in
    pixels, soft mask edges, and the licence of the published weights.
    """

    mask_shaped: bool
    native_size: int
    soft_mask: bool
    licence: str


class Generator(Protocol):
    """A diffusion model that fills masks."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def weights_digest(self) -> str:
        """sha256 over the weights, or the resolved revision of a hub model."""
        ...

    @property
    def scheduler(self) -> str: ...

    def prepare(self, prompts: Iterable[str]) -> None:
        """Encode prompts before `fill`, so that text encoders need not stay in the device's memory."""
        ...

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
            images: uint8 (N, S, S, 3) RGB; S is the native size or one of `sizes`.
            masks: bool (N, S, S), True where to paint.
            prompts: N texts.
            subjects: N class names, for generators that ground a phrase.
            seeds: N numbers below 2**63.

        Returns:
            uint8 (N, S, S, 3). A result depends on its own image, mask, prompt and seed only. An image with non-finite
            values comes back in one colour.
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
    meter: Meter | None = None,
    tally: Tally | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of `inpainted_crops`: every selected instance, `replicas` times, from row `skip` on.

    Instances of one size share a batch, and the last batch of a size is padded by repetition: a crop is bit-identical
    whatever shares its batch only if the same kernels run. While a batch is on the device, the next one is decoded and
    the previous one is encoded. A batch that does not fit into the device's memory is halved, and so are those after
    it.

    A crop that failed (`failures.failure_reason`) stores the reason as `failure` and the pixels of its source as its
    picture, so that a broken picture reaches nothing downstream. Rows are held back while most crops of the run fail.

    Args:
        selected: rows of `selected_instances`, with `lighting` and `description` where prompts of the bank need them.
        bank: prompts of the class (`prompts.prompt_bank`).
        skip: number of rows that are stored already.
        meter: pays for each batch; rows end before the first batch that it cannot afford (`Meter.check` reports this).
        tally: failures of the generator in this run, over all its partitions.

    Raises:
        SettingsError: the device has no memory for a single crop, or most crops of the run fail.
    """
    tally = tally or Tally()
    held: list[dict[str, Any]] = []
    for row in _rows(generator, name, selected, bank, settings, base_seed, replicas, skip, meter or Meter()):
        tally.count(row["failure"])
        held.append(row)
        tally.check(name, settings, last=False)
        if not tally.mostly_failures:
            yield from held
            held.clear()
    tally.check(name, settings, last=True)
    yield from held


def _rows(
    generator: Generator,
    name: str,
    selected: pd.DataFrame,
    bank: pd.DataFrame,
    settings: GeneratorSettings,
    base_seed: int,
    replicas: int,
    skip: int,
    meter: Meter,
) -> Iterator[dict[str, Any]]:
    jobs = [
        _Job(
            row,
            replica,
            prompt,
            content_seed(row["instance_id"], prompt, name, replica, base_seed),
            _side(row, settings),
        )
        for row in selected.to_dict("records")
        for replica in range(replicas)
        for prompt in [filled_in(choose_prompt(bank, row["instance_id"], replica, base_seed), row)]
    ]
    jobs = sorted(jobs, key=lambda job: job.side)[skip:]
    generator.prepare(job.prompt for job in jobs)
    provenance = {
        "generator": name,
        "weights_digest": generator.weights_digest,
        "scheduler": generator.scheduler,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "strength": settings.strength,
    }
    painter = _Painter(generator, name, settings.batch_size)
    read = map_ahead(_read, _batches(jobs, settings.batch_size))
    filled = (painter.fill(*batch, meter) for batch in meter.while_affordable(read))
    for batch, encoded, seconds in map_ahead(_encode, filled):
        for job, (image, reason) in zip(batch, encoded, strict=True):
            yield {
                "instance_id": job.row["instance_id"],
                "frame_id": job.row["frame_id"],
                "class_name": job.row["class_name"],
                "replica": job.replica,
                "prompt": job.prompt,
                "seed": job.seed,
                **provenance,
                "failure": reason,
                "image_png": image,
                "device_seconds": seconds / len(batch),
            }


@dataclass(frozen=True)
class _Job:
    """One repainting to compute."""

    row: dict[str, Any]
    replica: int
    prompt: str
    seed: int
    side: int


def _side(row: dict[str, Any], settings: GeneratorSettings) -> int:
    """The smallest of the generator's sizes at which a crop loses no resolution, or its largest size."""
    needed, sides = max(png_size(row["crop_png"])), {settings.size, *settings.sizes}
    return min((side for side in sides if side >= needed), default=max(sides))


def _batches(jobs: Sequence[_Job], size: int) -> Iterator[Sequence[_Job]]:
    for _, group in groupby(jobs, key=lambda job: job.side):
        same = list(group)
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _read(jobs: Sequence[_Job]) -> tuple[Sequence[_Job], np.ndarray, np.ndarray]:
    crops, masks = zip(*(_native(job.row, job.side) for job in jobs), strict=True)
    return jobs, np.stack(crops), np.stack(masks)


@dataclass(frozen=True)
class _Filled:
    """A finished batch: jobs, their crops and repaintings uint8 (N, S, S, 3), masks bool (N, S, S), and the seconds on
    the device.
    """

    jobs: Sequence[_Job]
    crops: np.ndarray
    masks: np.ndarray
    images: np.ndarray
    seconds: float


class _Painter:
    """Runs batches of the largest size that fits into the device's memory."""

    def __init__(self, generator: Generator, name: str, size: int) -> None:
        self._generator, self._name, self._size = generator, name, size

    def fill(self, jobs: Sequence[_Job], crops: np.ndarray, masks: np.ndarray, meter: Meter) -> _Filled:
        """Fill a batch."""
        from torch import OutOfMemoryError

        started, images = time.monotonic(), list[np.ndarray]()
        while len(images) < len(jobs):
            try:
                images += list(self._some(jobs[len(images) :], crops[len(images) :], masks[len(images) :]))
            except OutOfMemoryError:
                self._halve()
        seconds = time.monotonic() - started
        meter.spend(seconds)
        return _Filled(jobs, crops, masks, np.stack(images), seconds)

    def _some(self, jobs: Sequence[_Job], crops: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """The first jobs of a batch, as many as fit, padded to that number."""
        real = min(len(jobs), self._size)
        padded = [*range(real), *[real - 1] * (self._size - real)]
        shown = [jobs[index] for index in padded]
        texts, subjects = [job.prompt for job in shown], [job.row["class_name"] for job in shown]
        images = self._generator.fill(crops[padded], masks[padded], texts, subjects, [job.seed for job in shown])
        return images[:real]

    def _halve(self) -> None:
        from torch import cuda

        if self._size == 1:
            raise SettingsError(
                f"generators.{self._name}: the device has no memory for one crop; lower size, or set dtype to float16"
            )
        self._size = (self._size + 1) // 2
        cuda.empty_cache()
        _log.warning("generators.%s: out of memory on the device, going on with batches of %d", self._name, self._size)


def _encode(filled: _Filled) -> tuple[Sequence[_Job], list[tuple[bytes, str]], float]:
    """The encoded crops, each with the reason why it failed or ""."""
    stored = []
    for image, crop, mask in zip(filled.images, filled.crops, filled.masks, strict=True):
        reason = failure_reason(image, crop, mask)
        stored.append((encode_png(crop if reason else image), reason))
    return filled.jobs, stored, filled.seconds


def _native(row: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crop and mask of a selected instance at the generator's size; the mask covers every pixel of the instance."""
    crop = decode_png(row["crop_png"])
    mask = decode_rle({"size": list(crop.shape[:2]), "counts": row["mask_counts"]})
    return resize_image(crop, (size, size)), cover_mask(mask, size)
