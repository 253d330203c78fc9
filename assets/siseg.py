"""The training of SISeg, which separates the instances of a semantic map."""

from __future__ import annotations

from functools import partial

from assets.shared.declaration import artifact
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


@artifact(
    "siseg",
    code_version="1",
    when=lambda settings: settings.semantics,
    settings=["semantics.segmenter:recipe", "semantics.seed", "classes", "dataset.root"],
    reads=lambda at: annotated(at.settings.dataset.train_cities),
    group="semantics",
    kinds={"pytorch"},
)
def siseg(
    out: PartitionWriter, _: str, settings: Settings, store: DeclaredStore, dataset: Dataset, device: Device
) -> Made:
    """Displacement field and boundaries that separate the instances of a semantic map, trained on the train cities: on
    their classes alone, or on their instances (SISeg, with this project's gauge term).
    """
    chosen = settings.semantics
    assert chosen is not None
    frames, instances = (store.read_many(asset, store.declared(asset)) for asset in ("frames", "instances"))
    data = ArmDataset(frame_samples(frames, instances, settings.classes), dataset, store, None)
    recipe = chosen.segmenter
    fit = get_segmenter(recipe.kind).fit
    training = partial(fit, data, recipe, classes=settings.classes, seed=chosen.seed)
    result = train_into(out, "training siseg", recipe, device, training)
    return Made({"loss_curve": curve_picture(result.curve)})
