"""The common part of assets that train a segmenter."""

from __future__ import annotations

from collections.abc import Callable

from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.segmenters.contract import FitResult
from instsynth_dagster.settings import SegmenterSettings
from resources.device import Device
from resources.progress import progress_bar


def train_into(
    out: PartitionWriter, title: str, recipe: SegmenterSettings, device: Device, fit: Callable[..., FitResult]
) -> FitResult:
    """Train, and store checkpoint folder and loss curve; a killed training continues from its last checkpoint.

    Args:
        fit: `Segmenter.fit` without its arguments out, scratch, device and progress.
    """
    devices = 1 if device.name == "cpu" else recipe.processes
    with progress_bar(title, recipe.steps) as progress:
        result = fit(
            out=out.folder("checkpoint"),
            scratch=out.scratch(),
            device=device.name,
            progress=out.meter.charge_steps(progress, recipe.checkpoint_every, devices),
        )
    out.add_table(result.curve)
    out.device_seconds = result.seconds * devices
    out.summary.update(steps=recipe.steps, final_loss=float(result.curve["loss"].iloc[-1]))
    return result
