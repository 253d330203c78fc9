"""The generative segmenter as one module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instsynth_dagster.models.denoising import cosine_schedule
from instsynth_dagster.segmenters.generative.boxes import noised, to_normalised, to_pixels
from instsynth_dagster.segmenters.generative.config import GenerativeConfig, Predictor
from instsynth_dagster.segmenters.generative.decoder import Decoder, Prediction
from instsynth_dagster.segmenters.generative.dynamic_masks import dynamic_masks
from instsynth_dagster.segmenters.generative.inference import denoise, survivors, windows
from instsynth_dagster.segmenters.generative.losses import total_loss, truth_of
from instsynth_dagster.segmenters.shared.pyramid import MaskFeatures, Pyramid

OUTSIDE = -20.0
"""Logit of a mask outside its own box."""
_PREDICTORS: dict[Predictor, str] = {"class": "class_logits", "box": "box_deltas", "kernel": "controller"}


class Generative(nn.Module):
    """Extractor, pyramid, and a decoder that denoises boxes; each denoised proposal provides the kernel of its mask.

    A frozen extractor is neither among the parameters nor in the state: it is loaded from its source.
    """

    def __init__(self, config: GenerativeConfig, extractor: Any) -> None:
        super().__init__()
        self.sizes = config  # not named `config`, to which transformers' Trainer would write
        self.stored = keeps_extractor(config)
        if self.stored:
            self.extractor = extractor
        else:
            object.__setattr__(self, "extractor", extractor)
        self.frozen = config.extractor.frozen
        self._seen: dict[int, list[Tensor]] = {}
        if self.frozen:
            extractor.requires_grad_(False)
        self.pyramid = Pyramid(extractor.channels, extractor.strides, config.dim)
        self.mask_features = MaskFeatures(len(extractor.strides), config.dim, config.mask_channels)
        self.decoder = Decoder(config, self.pyramid.strides)
        self.schedule = cosine_schedule(config.signal_scale)
        if config.train_only:
            self._freeze_all_but(config.train_only)

    def _freeze_all_but(self, predictors: Sequence[Predictor]) -> None:
        self.requires_grad_(False)
        for stage in self.decoder.stages:
            for name in predictors:
                getattr(stage, _PREDICTORS[name]).requires_grad_(True)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Generative:
        if not self.stored:
            self.extractor._apply(fn)  # the frozen extractor follows to another device
        return super()._apply(fn, recurse)

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: Sequence[Tensor],
        class_labels: Sequence[Tensor],
        ignored: Sequence[Tensor] | None = None,
        views: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """The loss on a batch.

        Args:
            pixel_values: float (B, 3, H, W), normalised; any size.
            mask_labels: float (N_i, H, W) of each image.
            class_labels: int64 (N_i,) of each image.
            ignored: float (M_i, H, W), objects that may not be counted as background.
            views: an integer for each image, the same for equal pixels: the extractor runs once for each.
        """
        pyramid, features, size = self.features(pixel_values, views)
        padded = [_padded(masks, size) for masks in mask_labels]
        left_out = [_padded(masks, size) for masks in ignored] if ignored is not None else [m[:0] for m in padded]
        truths = [
            truth_of(masks, classes, out, (features.shape[2], features.shape[3]))
            for masks, classes, out in zip(padded, class_labels, left_out, strict=True)
        ]
        steps = torch.randint(self.schedule.config.num_train_timesteps, (len(truths),), device=pixel_values.device)
        config = self.sizes
        boxes = [
            noised(to_normalised(truth.boxes, size), config.num_proposals, step, self.schedule, config.signal_scale)
            for truth, step in zip(truths, steps, strict=True)
        ]
        stages = self.decoder(pyramid, to_pixels(torch.stack(boxes), size), steps)
        return {"loss": total_loss(stages, features, truths, size, config)}

    def features(
        self, pixels: Tensor, views: Sequence[int] | None = None
    ) -> tuple[list[Tensor], Tensor, tuple[int, int]]:
        """Pyramid (finest first), mask features, and height and width of the padded images."""
        height, width = pixels.shape[-2:]
        multiple = self.extractor.coarsest
        pixels = F.pad(pixels, (0, -width % multiple, 0, -height % multiple))
        if self.frozen:
            with torch.no_grad():
                maps = self.extractor(pixels) if views is None else self._once(pixels, views)
        else:
            maps = self.extractor(pixels)
        pyramid = self.pyramid(maps)
        return pyramid, self.mask_features(pyramid), (pixels.shape[2], pixels.shape[3])

    def _once(self, pixels: Tensor, views: Sequence[int]) -> list[Tensor]:
        """The extractor's maps; those of known views come from memory, where they are kept as float16."""
        new = [row for row, view in enumerate(views) if view not in self._seen]
        if new:
            for row, maps in zip(new, zip(*self.extractor(pixels[new]), strict=True), strict=True):
                self._seen[views[row]] = [m.to("cpu", torch.float16).contiguous() for m in maps]
        rows = zip(*(self._seen[view] for view in views), strict=True)
        return [torch.stack(maps).to(pixels) for maps in rows]

    @torch.inference_mode()
    def segment(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (S, C), one of them not 0, and mask logits (S, h, w) of one image (1, 3, H, W), best first."""
        pyramid, features, size = self.features(pixels)
        device = pixels.device

        def decode(boxes: Tensor, step: int) -> Prediction:
            return self.decoder(pyramid, boxes, torch.full((len(boxes),), step, device=device))[-1]

        frames = windows(size, self.sizes.window).to(device)
        candidates = denoise(decode, self.schedule, frames, self.sizes)
        rows, classes, scores = survivors(candidates, self.sizes)
        boxes, kernels = candidates.boxes[rows], candidates.kernels[rows]
        stride = size[1] // features.shape[-1]
        masks = dynamic_masks(features[0], kernels, boxes, stride, self.sizes.rel_coords)
        masks = masks.masked_fill(~_inside(boxes, (masks.shape[1], masks.shape[2]), stride), OUTSIDE)
        probabilities = torch.zeros(len(rows), len(self.sizes.classes), device=device)
        probabilities[torch.arange(len(rows), device=device), classes] = scores
        return probabilities, masks


def keeps_extractor(config: GenerativeConfig) -> bool:
    """Whether a checkpoint holds the extractor: always, except for a generator with its original weights."""
    extractor = config.extractor
    as_found = extractor.kind == "unet" and not extractor.random_weights and extractor.remove == "nothing"
    return not as_found or extractor.tune


def _padded(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return F.pad(masks, (0, size[1] - masks.shape[-1], 0, size[0] - masks.shape[-2]))


def _inside(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """bool (S, h, w): cells of the mask that touch the box."""
    ys = torch.arange(size[0], device=boxes.device) * stride
    xs = torch.arange(size[1], device=boxes.device) * stride
    x1, y1, x2, y2 = (side[:, None] for side in boxes.unbind(1))
    rows = (ys + stride > y1) & (ys < y2)
    columns = (xs + stride > x1) & (xs < x2)
    return rows[:, :, None] & columns[:, None, :]
