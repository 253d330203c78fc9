"""Segment Anything from transformers: SAM, SAM 2 and SAM 3 (its tracker, which takes boxes) by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.models.sources import load_complete_model, pretrained
from instsynth_dagster.refinement.boundary import Proposal
from instsynth_dagster.refinement.refiners.points import interior_points
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE
from instsynth_dagster.settings import BoundarySettings
from instsynth_dagster.synthesis.crops import Box

_VIDEO_3 = "sam3_video"
"""Model type of the published SAM 3, whose own processor takes no boxes."""


class Sam:
    """`Refiner` prompted with the tight box and points well inside the mask; the image is embedded once."""

    def __init__(self, settings: BoundarySettings, device: str) -> None:
        name = str(settings.model)
        try:
            name, where = pretrained(name)
            with quiet_transformers():
                kind = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **where).model_type
                self._model: Any = load_complete_model(
                    transformers.AutoModelForMaskGeneration, name, dtype=torch.float32, trust_remote_code=False, **where
                )
                self._processor: Any = (
                    transformers.Sam3TrackerProcessor.from_pretrained(name, trust_remote_code=False, **where)
                    if kind == _VIDEO_3
                    else transformers.AutoProcessor.from_pretrained(name, trust_remote_code=False, **where)
                )
        except UNLOADABLE as error:
            raise CheckpointError(f"refinement.boundary.model: {name}: {reason(error)}") from None
        self._model.eval().to(device)
        self._points, self._device = settings.points, device

    @torch.inference_mode()
    def refine(self, image: np.ndarray, boxes: Sequence[Box], coarse: np.ndarray) -> list[Proposal]:
        """Foreground of each box, see `Refiner.refine`."""
        if not boxes:
            return []
        prompts: dict[str, Any] = {"input_boxes": [[[float(side) for side in box] for box in boxes]]}
        if self._points:
            points = [interior_points(mask, self._points) for mask in coarse]
            prompts |= {"input_points": [points], "input_labels": [[[1] * self._points for _ in points]]}
        inputs = self._processor(images=image, return_tensors="pt", **prompts).to(self._device)
        sizes = inputs.pop("original_sizes")
        reshaped = inputs.pop("reshaped_input_sizes", None)
        embeddings = self._model.get_image_embeddings(inputs.pop("pixel_values"))
        output = self._model(image_embeddings=embeddings, multimask_output=False, **inputs)
        given = (sizes,) if reshaped is None else (sizes, reshaped)
        masks = self._processor.post_process_masks(output.pred_masks.cpu(), *given)[0]
        scores = output.iou_scores[0].cpu().reshape(len(boxes), -1)[:, 0].tolist()
        return [
            Proposal(mask.reshape(-1, *image.shape[:2])[0].numpy().astype(bool), float(score))
            for mask, score in zip(masks, scores, strict=True)
        ]
