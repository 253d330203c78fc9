"""Segmenters trained on each arm with the same number of steps."""

from __future__ import annotations

from functools import partial

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import curve_picture
from assets.shared.training import train_into
from assets.training_sets import windows_and_labels
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import TrainingRun, run_dimensions
from instsynth_dagster.graph.refs import each
from instsynth_dagster.segmenters.training.launch import train_run
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device


@artifact(
    "trained_segmenters",
    code_version="2",
    when=lambda settings: settings.segmenters and settings.dataset.val_cities,
    dimensions=run_dimensions,
    settings=lambda at: [f"segmenters.{at['segmenter']}:recipe", "classes", "dataset.root"],
    reads=lambda at: [
        ("training_sets", TrainingRun.parse(at["run"]).data.name),
        *each("frames", at.settings.dataset.train_cities),
        *windows_and_labels(at.settings, TrainingRun.parse(at["run"]).data.arm),
    ],
    group="segmentation",
    kinds={"pytorch", "transformers"},
)
def trained_segmenters(
    out: PartitionWriter, partition: str, settings: Settings, store: DeclaredStore, dataset: Dataset, device: Device
) -> Made:
    """A segmenter trained on one arm with one seed: checkpoint folder and loss curve. A killed training continues from
    its last checkpoint.
    """
    run, name = partition.split("|")
    recipe = settings.segmenters[name]
    training = partial(train_run, TrainingRun.parse(run), recipe, settings.classes, dataset, store)
    result = train_into(out, f"training {name} on {run}", recipe, device, training)
    cost = {
        "seconds_per_step": round(result.seconds / recipe.steps, 4),
        "peak_memory_mb": round(result.peak_memory / 2**20),
    }
    samples = store.require("training_sets", TrainingRun.parse(run).data.name).rows
    out.summary.update(samples=samples, **cost)
    return Made({"loss_curve": curve_picture(result.curve)})
