"""Segmenters that give a second opinion on masks."""

from __future__ import annotations

from functools import partial

from assets.shared.declaration import At, artifact
from assets.shared.made import Made
from assets.shared.pictures import curve_picture
from assets.shared.training import train_into
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.refs import annotated
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.training.samples import ArmDataset, frame_samples
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device


def _settings(at: At) -> list[str]:
    assert at.settings.judge is not None
    assert at.settings.judge.masks is not None
    recipe = f"segmenters.{at.settings.judge.masks.segmenter}:recipe"
    return ["judge.masks.segmenter", recipe, "classes", "seed", "dataset.root"]


@artifact(
    "mask_judges",
    code_version="1",
    when=lambda settings: settings.judge and settings.judge.masks and not settings.judge.masks.checkpoint,
    dimensions=lambda settings: {"city": settings.dataset.train_cities},
    settings=_settings,
    reads=lambda at: annotated([city for city in at.settings.dataset.train_cities if city != at["city"]]),
    group="phase_2",
    kinds={"pytorch"},
)
def mask_judges(
    out: PartitionWriter, city: str, settings: Settings, store: DeclaredStore, dataset: Dataset, device: Device
) -> Made:
    """A segmenter trained on the real frames of all train cities but one, to judge the repaintings of that city."""
    assert settings.judge is not None
    assert settings.judge.masks is not None
    recipe = settings.segmenters[settings.judge.masks.segmenter]
    frames, instances = (store.read_many(asset, store.declared(asset)) for asset in ("frames", "instances"))
    data = ArmDataset(frame_samples(frames, instances, settings.classes), dataset, store, None)
    fit = partial(get_segmenter(recipe.kind).fit, data, recipe, classes=settings.classes, seed=settings.seed)
    result = train_into(out, f"training a judge for {city}", recipe, device, fit)
    return Made({"loss_curve": curve_picture(result.curve)})
