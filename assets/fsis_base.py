"""Few-shot instance segmentation: base trainings."""

from __future__ import annotations

from functools import partial

from assets.shared.declaration import At, artifact
from assets.shared.made import Made
from assets.shared.pictures import curve_picture
from assets.shared.training import train_into
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.few_shot.unannotated import Unannotated
from instsynth_dagster.graph.refs import annotated
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.training.samples import ArmDataset, frame_samples
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device


def _systems(settings: Settings) -> dict[str, tuple[str, ...]]:
    assert settings.few_shot_instances is not None
    return {"system": tuple(settings.few_shot_instances.systems)}


def _settings(at: At) -> list[str]:
    base = f"few_shot_instances.systems.{at['system']}.base:recipe"
    return [base, "few_shot_instances.novel", "classes", "seed", "dataset.root"]


@artifact(
    "fsis_base",
    code_version="3",
    when=lambda settings: settings.few_shot_instances,
    dimensions=_systems,
    settings=_settings,
    reads=lambda at: annotated(at.settings.dataset.train_cities),
    group="few_shot",
    kinds={"pytorch"},
)
def fsis_base(
    out: PartitionWriter, name: str, settings: Settings, store: DeclaredStore, dataset: Dataset, device: Device
) -> Made:
    """A segmenter trained on the base classes of all train frames; novel objects are neither annotated nor counted as
    background.
    """
    chosen = settings.few_shot_instances
    assert chosen is not None
    known = tuple(name for name in settings.classes if name not in chosen.novel)
    frames, instances = (store.read_many(asset, store.declared(asset)) for asset in ("frames", "instances"))
    real = ArmDataset(frame_samples(frames, instances, known), dataset, store, None)
    recipe = chosen.systems[name].base
    fit = get_segmenter(recipe.kind).fit
    training = partial(fit, Unannotated(real, chosen.novel), recipe, classes=known, seed=settings.seed)
    result = train_into(out, f"base training of {name}", recipe, device, training)
    return Made({"loss_curve": curve_picture(result.curve)})
