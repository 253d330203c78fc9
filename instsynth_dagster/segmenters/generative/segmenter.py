"""The generative segmenter behind the segmenter interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.smaller_unets import Distillation
from instsynth_dagster.models.sources import trained_folder
from instsynth_dagster.segmenters.contract import SegmentationDataset
from instsynth_dagster.segmenters.generative.config import GenerativeConfig
from instsynth_dagster.segmenters.generative.extractors import build_extractor, to_generator_range
from instsynth_dagster.segmenters.generative.model import Generative
from instsynth_dagster.segmenters.shared.augmentation import (
    FixedViews,
    Targets,
    TrainingDraws,
    collate,
    ignored_objects,
    instances_only,
)
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE
from instsynth_dagster.segmenters.shared.checkpoints import (
    CONFIG,
    WEIGHTS,
    architecture,
    for_inference,
    save_checkpoint,
    transferred_weights,
)
from instsynth_dagster.segmenters.shared.queries import QueryPredictor, QuerySegmenter
from instsynth_dagster.segmenters.training.loop import train
from instsynth_dagster.settings import SegmenterSettings

PER_CLASS = ("class_logits.weight", "class_logits.bias")
"""Suffixes of the names of parameters that have a row for each class."""


class GenerativeSegmenter(QuerySegmenter):
    """`Segmenter` of kind `generative`. `settings.architecture` holds values of `GenerativeConfig`; with
    `settings.model`, a trained one, they change its configuration (few-shot: other classes, `train_only`).
    """

    def build(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> nn.Module:
        if settings.model:
            trained = self.restore(trained_folder(settings.model))[0]
            return _with_classes(trained, settings.architecture, classes)
        config = architecture(GenerativeConfig, settings.architecture | {"classes": tuple(classes)})
        return Generative(config, build_extractor(config.extractor, with_teacher=True))

    def prepare(
        self,
        model: Any,
        dataset: SegmentationDataset,
        settings: SegmenterSettings,
        *,
        classes: Sequence[str],
        seed: int,
        scratch: Path,
        device: str,
    ) -> None:
        """Distil a generator with removed blocks from the full one before the training itself."""
        teacher = getattr(model.extractor, "teacher", None)
        if teacher is None:
            return
        steps = model.sizes.extractor.distill_steps
        recipe = settings.model_copy(update={"steps": steps, "checkpoint_every": min(steps, settings.checkpoint_every)})

        def batch(items: list[Any]) -> dict[str, Tensor]:
            return {"pixel_values": to_generator_range(collate(items)["pixel_values"])}

        train(
            Distillation(model.extractor.taps, teacher),
            TrainingDraws(dataset, recipe, instances_only(classes, dataset.labels), seed, steps * recipe.batch_size),
            recipe,
            collate=batch,
            seed=seed,
            scratch=scratch / "distillation",
            device=device,
            progress=None,
        )
        model.extractor.teacher = None
        if model.frozen:
            model.extractor.requires_grad_(False)

    def backbone(self, model: Any) -> nn.Module:
        return model.extractor

    def stride(self, model: Any) -> int:
        return int(model.extractor.coarsest)

    def targets(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> Targets:
        wanted = instances_only(classes, labels)

        def targets(ids: Tensor) -> dict[str, Any]:
            return {**wanted(ids), "ignored": ignored_objects(ids, labels)}

        return targets

    def draws(
        self, dataset: SegmentationDataset, settings: SegmenterSettings, classes: Sequence[str], model: Any, seed: int
    ) -> Dataset:
        views, count = model.sizes.views, settings.steps * settings.batch_size
        if views is None:
            return super().draws(dataset, settings, classes, model, seed)
        distinct = views * len(dataset)
        stream = TrainingDraws(dataset, settings, self.targets(settings, classes, dataset.labels), seed, distinct)
        return FixedViews(stream, distinct, seed, count)

    def batches(
        self, settings: SegmenterSettings, classes: Sequence[str], model: Any
    ) -> Callable[[list[Any]], dict[str, Any]]:
        def batch(items: list[Any]) -> dict[str, Any]:
            views = [int(item["view"]) for item in items] if "view" in items[0] else None
            return {**collate(items), "ignored": [item["ignored"] for item in items], "views": views}

        return batch

    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        save_checkpoint(model, model.sizes.model_dump_json(indent=2), out)

    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        try:
            config = GenerativeConfig.model_validate_json((folder / CONFIG).read_text())
            model = Generative(config, build_extractor(config.extractor))
            model.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
        except CheckpointError:
            raise
        except UNLOADABLE as error:
            raise CheckpointError(f"{folder}: cannot be loaded as a generative segmenter: {error}") from None
        return model, config.classes

    def predictor(
        self, model: Any, classes: Sequence[str], settings: SegmenterSettings, labels: LabelTable, device: str
    ) -> QueryPredictor:
        model.sizes = for_inference(model.sizes, settings)
        return super().predictor(model, classes, settings, labels, device)

    def infer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return model.segment(pixels)


def _with_classes(trained: Any, values: dict[str, Any], classes: Sequence[str]) -> Generative:
    """A trained model for other classes, or with another extractor: rows of known classes are kept, those of new ones
    are initialised at random.
    """
    changed = trained.sizes.model_dump(exclude_unset=True, exclude={"views"}) | values | {"classes": tuple(classes)}
    config = architecture(GenerativeConfig, changed)
    same = config.extractor == trained.sizes.extractor
    model = Generative(config, trained.extractor if same else build_extractor(config.extractor, with_teacher=True))
    model.load_state_dict(transferred_weights(trained, model, trained.sizes.classes, classes, PER_CLASS))
    return model
