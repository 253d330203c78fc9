"""Repainting without the graph: images and masks in, repainted images and their provenance out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.data.masks import encode_rle, mask_box
from instsynth_dagster.errors import DatasetError, SettingsError
from instsynth_dagster.settings import (
    CaptionSettings,
    GeneratorSettings,
    IntegrationSettings,
    PromptSettings,
    SelectionSettings,
)
from instsynth_dagster.settings.synthesis import plain_prompts
from instsynth_dagster.synthesis.crops import crop_box, cut_crop, focus
from instsynth_dagster.synthesis.gates import gate_scores
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.generators.base import repaint
from instsynth_dagster.synthesis.generators.failures import Tally
from instsynth_dagster.synthesis.integration import paste
from instsynth_dagster.synthesis.lighting import lighting_words
from instsynth_dagster.synthesis.prompts import prompt_bank


@dataclass(frozen=True)
class Repainting:
    """The result of `repaint_instances`.

    images: uint8 (H, W, 3) each; masks: bool (N, H, W) each, as given, because labels are unchanged; provenance: one
    row for each non-empty instance, in the order of the masks: image and instance (their indices), class_name, prompt,
    seed, generator, weights_digest, scheduler, steps, guidance, strength, failure (why the source's pixels stayed, or
    "") and, with a judge, the scores of `gates.gate_scores`.
    """

    images: list[np.ndarray]
    masks: list[np.ndarray]
    provenance: pd.DataFrame


def repaint_instances(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    classes: Sequence[Sequence[str]],
    generator: Mapping[str, Any] | GeneratorSettings,
    *,
    prompts: Mapping[str, Mapping[str, Any] | PromptSettings] | None = None,
    integration: IntegrationSettings | None = None,
    captions: Mapping[str, Any] | CaptionSettings | None = None,
    judge: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Repainting:
    """Repaint instances inside their own masks, as the graph does; outside all masks every pixel is unchanged.

    A result depends on its image, mask, class, prompts, settings and the seed, and not on other images of the call.

    Args:
        images: uint8 (H, W, 3) RGB, of any sizes.
        masks: for each image bool (N, H, W), one layer for each instance; an empty layer is skipped.
        classes: for each image the class names of its N instances.
        generator: settings of a generator, as in a params file; its `kind` names it in the provenance.
        prompts: templates and colours of a class, as in a params file; "a photo of a <class>" for classes without.
        integration: how repaintings are pasted back; default: the defaults of a params file.
        captions: the model that writes {description} of templates, as in a params file.
        judge: a CLIP, folder or hub id, that scores each repainting.
        seed: another seed gives other repaintings.
        device: "cpu" or "cuda".

    Raises:
        DatasetError: shapes or types of an image, its masks and its classes do not fit; the message has its index.
        SettingsError, CheckpointError: the generator or the judge cannot be loaded, or most of its crops fail.
        pydantic.ValidationError: settings with a wrong, missing or unknown key.
    """
    settings = GeneratorSettings.model_validate(generator)
    selected = pd.DataFrame(_selected(images, masks, classes))
    texts = {name: _prompts(name, prompts or {}) for name in selected.get("class_name", ())}
    if selected.empty:
        return Repainting([image.copy() for image in images], list(masks), pd.DataFrame(columns=["image", "instance"]))
    loaded, tally = load_generator(settings.kind, settings, device), Tally()
    if any(of_class.wants("description") for of_class in texts.values()):
        selected = _described(selected, captions, device)
    crops = []
    for name, rows in selected.drop_duplicates("instance_id").groupby("class_name"):
        bank = prompt_bank(str(name), texts[str(name)])
        crops += list(repaint(loaded, settings.kind, rows, bank, settings, seed, tally=tally))
    table = selected.merge(_judged(selected, pd.DataFrame(crops), judge, device), on="instance_id", sort=False)
    composites = _pasted(images, table, integration or IntegrationSettings())
    return Repainting(composites, list(masks), table.drop(columns=[*_INTERNAL_COLUMNS]))


_INTERNAL_COLUMNS = ("instance_id", "frame_id", "lighting", "box", "mask", "crop_png", "mask_counts", "image_png")
"""Columns that are used inside this module only."""
_DUPLICATE_COLUMNS = ("frame_id", "class_name", "replica", "device_seconds")
"""Columns of a repainting that duplicate those of its instance, or do not describe it."""


def _prompts(name: str, given: Mapping[str, Mapping[str, Any] | PromptSettings]) -> PromptSettings:
    return PromptSettings.model_validate(given.get(name) or plain_prompts(name))


def _described(
    selected: pd.DataFrame, captions: Mapping[str, Any] | CaptionSettings | None, device: str
) -> pd.DataFrame:
    """The rows with a caption of each instance."""
    from instsynth_dagster.models.captioner import Captioner

    if captions is None:
        raise SettingsError("prompts hold {description}; give captions, whose model writes it")
    settings = CaptionSettings.model_validate(captions)
    captioner = Captioner(settings.model, settings.max_tokens, device)
    seen = (focus(decode_png(row["crop_png"]), row["mask"]) for row in selected.to_dict("records"))
    return selected.assign(description=[captioner.caption(image) for image in seen])


def _selected(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], classes: Sequence[Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """Rows like those of `selected_instances`, with the columns that generators and judges read.

    The id comes from the content, so that seeds do not depend on the other images of the call.
    """
    if not len(images) == len(masks) == len(classes):
        raise DatasetError(f"{len(images)} images, {len(masks)} masks, {len(classes)} lists of classes; give one each")
    margin = SelectionSettings().margin
    for number, (image, layers, names) in enumerate(zip(images, masks, classes, strict=True)):
        _check(number, image, layers, names)
        frame = hashlib.sha256(np.ascontiguousarray(image).tobytes() + repr(image.shape).encode()).hexdigest()
        light = lighting_words(image)
        for instance, (mask, name) in enumerate(zip(layers, names, strict=True)):
            if not mask.any():
                continue
            box = crop_box(mask_box(mask), margin, mask.shape[1], mask.shape[0])
            crop, cut = cut_crop(image, mask.astype(np.int32), 1, box)
            counts = encode_rle(cut)["counts"]
            yield {
                "image": number,
                "instance": instance,
                "instance_id": f"{frame}:{hashlib.sha256(repr((box, counts)).encode()).hexdigest()}",
                "frame_id": frame,
                "class_name": name,
                "lighting": light,
                "box": box,
                "mask": cut,
                "crop_png": encode_png(crop),
                "mask_counts": counts,
            }


def _check(number: int, image: np.ndarray, layers: np.ndarray, names: Sequence[str]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DatasetError(f"image {number}: {image.dtype} {image.shape}; give uint8 (H, W, 3)")
    if layers.dtype != bool or layers.ndim != 3 or layers.shape[1:] != image.shape[:2]:
        wanted = f"bool (N, {image.shape[0]}, {image.shape[1]})"
        raise DatasetError(f"image {number}: masks are {layers.dtype} {layers.shape}; give {wanted}")
    if isinstance(names, str) or len(names) != len(layers):
        raise DatasetError(f"image {number}: {len(layers)} masks, classes are {names!r}; give one name for each mask")


def _judged(selected: pd.DataFrame, crops: pd.DataFrame, judge: str | None, device: str) -> pd.DataFrame:
    """The repaintings, with their scores if there is a judge."""
    own = crops.drop(columns=[*_DUPLICATE_COLUMNS])
    if judge is None:
        return own
    from instsynth_dagster.models.clip import Clip

    scores = gate_scores(selected, crops, Clip(judge, device), False, sorted(selected["class_name"].unique()))
    return own.merge(scores.drop(columns=["replica", "failure"]), on="instance_id", sort=False)


def _pasted(images: Sequence[np.ndarray], table: pd.DataFrame, settings: IntegrationSettings) -> list[np.ndarray]:
    composites = [image.copy() for image in images]
    for row in table.to_dict("records"):
        if not row["failure"]:
            image, painted = composites[row["image"]], decode_png(row["image_png"])
            composites[row["image"]] = paste(image, painted, row["mask"], row["box"], settings)
    return composites
