"""Segment Anything from its authors' package, by checkpoint path; the file's digest is checked before it is read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.digests import verified
from instsynth_dagster.refinement.boundary import Proposal
from instsynth_dagster.refinement.refiners.points import interior_points
from instsynth_dagster.settings import BoundarySettings
from instsynth_dagster.synthesis.crops import Box


class SegmentAnything:
    """`Refiner` around `SamPredictor`: the image is embedded once, all boxes are decoded in one batch."""

    def __init__(self, settings: BoundarySettings, device: str) -> None:
        if find_spec("segment_anything") is None:
            raise SettingsError(
                "refinement.boundary.kind: segment_anything is not installed: pip install segment-anything"
            )
        from segment_anything import SamPredictor, sam_model_registry

        architecture, checkpoint = settings.architecture, verified(str(settings.checkpoint))
        if checkpoint is None or not checkpoint.is_file():
            raise CheckpointError(f"refinement.boundary.checkpoint: {settings.checkpoint} is not a file")
        if file_sha256(checkpoint) != settings.sha256:
            raise CheckpointError(f"{checkpoint}: its sha256 is not refinement.boundary.sha256; get the file again")
        model: Any = sam_model_registry[architecture]()
        try:
            model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises nearly any error on a damaged file
            what = f"not a {architecture} checkpoint, or more than weights"
            raise CheckpointError(f"{checkpoint}: {what}: {reason(error)}") from None
        self._predictor: Any = SamPredictor(model.eval().to(device))
        self._points, self._device = settings.points, device

    @torch.inference_mode()
    def refine(self, image: np.ndarray, boxes: Sequence[Box], coarse: np.ndarray) -> list[Proposal]:
        """Foreground of each box, see `Refiner.refine`."""
        if not boxes:
            return []
        self._predictor.set_image(image)
        size = image.shape[:2]
        scale = self._predictor.transform
        given = scale.apply_boxes_torch(torch.tensor(boxes, dtype=torch.float32, device=self._device), size)
        points = labels = None
        if self._points:
            inside = torch.tensor([interior_points(mask, self._points) for mask in coarse], device=self._device)
            points = scale.apply_coords_torch(inside, size)
            labels = torch.ones(points.shape[:2], dtype=torch.int64, device=self._device)
        masks, scores, _ = self._predictor.predict_torch(points, labels, boxes=given, multimask_output=False)
        return [
            Proposal(mask[0].cpu().numpy(), float(score[0])) for mask, score in zip(masks, scores.cpu(), strict=True)
        ]
