"""MaskDiff behind the segmenter interface: boxes of a detector, masks of the denoiser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import default_collate

from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import decode_rle, encode_rle, mask_box
from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.sources import trained_folder
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import (
    PREDICTION_COLUMNS,
    FitResult,
    Maps,
    Predictor,
    Progress,
    SegmentationDataset,
    check_not_empty,
    get_segmenter,
)
from instsynth_dagster.segmenters.maskdiff.config import MaskDiffConfig
from instsynth_dagster.segmenters.maskdiff.denoiser import MaskDenoiser
from instsynth_dagster.segmenters.maskdiff.draws import RegionDraws, as_pixels, draw_shots, normalised
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE
from instsynth_dagster.segmenters.shared.checkpoints import (
    CONFIG,
    WEIGHTS,
    architecture,
    for_inference,
    save_checkpoint,
    transferred_weights,
)
from instsynth_dagster.segmenters.shared.regions import cut_regions, enlarged, paste_mask
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train
from instsynth_dagster.segmenters.training.steps import is_first_process
from instsynth_dagster.settings import SegmenterSettings

SHOTS, DETECTOR = "shots.safetensors", "detector"
_BATCH = 32


class MaskDiffSegmenter:
    """`Segmenter` of kind `maskdiff`. `settings.architecture` holds values of `MaskDiffConfig`; with `settings.model`,
    a trained one, they change its configuration.
    """

    def fit(
        self,
        dataset: SegmentationDataset,
        settings: SegmenterSettings,
        *,
        classes: Sequence[str],
        seed: int,
        out: Path,
        scratch: Path,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> FitResult:
        """Train, see `Segmenter.fit`; the steps are the denoiser's, the detector has its own in its settings."""
        check_not_empty(dataset)
        with isolated_random_state():
            torch.manual_seed(content_seed(seed, "initialisation"))
            model = _new_model(settings, classes)
        config = model.sizes
        stage_one = 0.0
        if config.detector and not config.trained_detector:
            folder, state = out / DETECTOR, scratch / DETECTOR
            inner = get_segmenter(config.detector.kind)
            stage_one = inner.fit(
                dataset, config.detector, classes=classes, seed=seed, out=folder, scratch=state, device=device
            ).seconds
        log = train(
            model,
            RegionDraws(dataset, settings, config, seed, settings.steps * settings.batch_size),
            settings,
            collate=default_collate,
            seed=seed,
            scratch=scratch,
            device=device,
            progress=progress,
        )
        if is_first_process():
            text = json.dumps(config.model_dump(mode="json", exclude_unset=True), indent=2)
            save_checkpoint(model.eval().to("cpu"), text, out)
            save_file({"shots": draw_shots(dataset, config, seed)}, out / SHOTS)
        return FitResult(out, log.curve, log.seconds + stage_one, log.peak_memory)

    def load(
        self, folder: Path, settings: SegmenterSettings, *, labels: LabelTable, device: str = "cpu"
    ) -> MaskDiffPredictor:
        """See `Segmenter.load`."""
        model, shots = restore(folder)
        model.sizes = config = for_inference(model.sizes, settings)
        detector = None
        if config.detector:
            detector = get_segmenter(config.detector.kind).load(
                trained_folder(config.trained_detector or folder / DETECTOR),
                config.detector,
                labels=labels,
                device=device,
            )
        return MaskDiffPredictor(model.eval().to(device), shots.to(device), detector, device)


def restore(folder: Path) -> tuple[MaskDenoiser, Tensor]:
    """Denoiser and shots of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, incomplete or of another kind.
    """
    try:
        config = MaskDiffConfig.model_validate_json((folder / CONFIG).read_text())
        model = MaskDenoiser(config)
        model.load_state_dict(load_file(folder / WEIGHTS))
        return model, load_file(folder / SHOTS)["shots"]
    except UNLOADABLE as error:
        raise CheckpointError(f"{folder}: cannot be loaded as MaskDiff: {reason(error)}") from None


def _new_model(settings: SegmenterSettings, classes: Sequence[str]) -> MaskDenoiser:
    values = settings.architecture | {"classes": tuple(classes)}
    if not settings.model:
        return MaskDenoiser(architecture(MaskDiffConfig, values))
    trained = restore(trained_folder(settings.model))[0]
    before = trained.sizes
    changed = before.model_dump(mode="json", exclude_unset=True) | values
    model = MaskDenoiser(architecture(MaskDiffConfig, changed))
    known, wanted = ("", *before.classes), ("", *classes)  # row 0 is "any class"
    model.load_state_dict(transferred_weights(trained, model, known, wanted, ("class_embedding.weight",)))
    return model


class MaskDiffPredictor:
    """A trained MaskDiff; without a detector it segments given boxes only."""

    def __init__(self, model: MaskDenoiser, shots: Tensor, detector: Predictor | None, device: str) -> None:
        self.model, self.classes = model, model.sizes.classes
        self._shots, self._detector, self._device = shots, detector, device

    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        """See `Predictor.predict`."""
        if self._detector is None:
            raise SettingsError("segmenters.architecture.detector: MaskDiff needs one to find boxes")
        return [
            self._redrawn(image, found) for image, found in zip(images, self._detector.predict(images), strict=True)
        ]

    def maps(self, image: np.ndarray) -> Maps | None:
        """See `Predictor.maps`."""
        return None

    def _redrawn(self, image: np.ndarray, found: pd.DataFrame) -> pd.DataFrame:
        """Detections with new masks; their score is the detector's class score times the masks' mean confidence."""
        sure = found[found["score"] >= self.model.sizes.min_score]
        if sure.empty:
            return found
        boxes = [
            mask_box(decode_rle({"size": [row.mask_height, row.mask_width], "counts": row.mask_counts}))
            for row in sure.itertuples()
        ]
        labels = [self.classes.index(name) for name in sure["class_name"]]
        table = found.copy()
        for index, (mask, confidence) in zip(sure.index, self.segment(image, boxes, labels), strict=True):
            if mask.any():
                table.loc[index, ["mask_counts", "score"]] = [
                    encode_rle(mask)["counts"],
                    table.loc[index, "score"] * confidence,
                ]
        return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)[list(PREDICTION_COLUMNS)]

    def segment(
        self, image: np.ndarray, boxes: Sequence[tuple[int, int, int, int]], labels: Sequence[int]
    ) -> list[tuple[np.ndarray, float]]:
        """For each box (xyxy, pixels) and class index: the mask bool (H, W), and its mean probability inside it."""
        around = enlarged(torch.tensor(boxes, dtype=torch.float32).view(-1, 4), self.model.sizes.pad)
        pixels = normalised(as_pixels(image))
        result: list[tuple[np.ndarray, float]] = []
        for start in range(0, len(boxes), _BATCH):
            part = around[start : start + _BATCH]
            classes = torch.tensor(labels[start : start + _BATCH], device=self._device)
            regions = cut_regions(pixels, part, self.model.sizes.region).to(self._device)
            masks = self.model.sample(regions, self._shots[classes], classes).cpu()
            for mask, box in zip(masks, part, strict=True):
                inside = mask > 0
                confidence = float((mask[inside].mean() + 1) / 2) if inside.any() else 0.0
                result.append((paste_mask(mask, box, image.shape[:2]), confidence))
        return result


def given_box_iou(
    predictor: MaskDiffPredictor,
    image: np.ndarray,
    ids: np.ndarray,
    min_side: int,
    classes: Sequence[str],
    labels: LabelTable,
) -> pd.DataFrame:
    """Mask IoU of the instances of `classes` in a frame given their true boxes and classes: class_name, area, side,
    iou.

    Instances whose box is narrower than `min_side` pixels are left out; `side` is the shorter side in pixels.
    """
    index = instance_index(ids, labels)
    index["side"] = np.minimum(index["x2"] - index["x1"], index["y2"] - index["y1"])
    rows = index[~index["is_group"] & index["class_name"].isin(classes) & (index["side"] >= min_side)]
    boxes = [(int(r.x1), int(r.y1), int(r.x2), int(r.y2)) for r in rows.itertuples()]
    indices = [predictor.classes.index(name) for name in rows["class_name"]]
    ious = []
    for value, (mask, _) in zip(rows["value"], predictor.segment(image, boxes, indices), strict=True):
        truth = ids == value
        ious.append((mask & truth).sum() / (mask | truth).sum())
    return rows[["class_name", "area", "side"]].reset_index(drop=True).assign(iou=np.array(ious, dtype=float))
