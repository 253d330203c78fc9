"""Checks of a params file before long work: models, data set, device, memory, disk, time and money."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from instsynth_dagster.doctor.calibration import calibrate, read_calibration
from instsynth_dagster.doctor.dataset import examine_dataset
from instsynth_dagster.doctor.estimate import Work, disk_needs, gpu_time, work, work_findings
from instsynth_dagster.doctor.findings import Finding, problem, problems
from instsynth_dagster.doctor.machine import examine_device, examine_disk, find_device, no_gpu
from instsynth_dagster.doctor.models import Model, examine_fid, examine_models
from instsynth_dagster.errors import UserError
from instsynth_dagster.settings import Settings

__all__ = ["Finding", "examine", "examine_thoroughly", "problems", "survey"]


def survey(settings: Settings) -> tuple[list[Finding], list[Work]]:
    """Findings from the files on this machine alone, and the work that its device would do; asks no hub and imports no
    model library.
    """
    models, dataset = examine_models(settings, ask_hub=False), examine_dataset(settings, look_inside=False)
    found = [*dataset.findings, *_prompts(settings), *_of(models)]
    return found, work(settings, dataset, models, _measured(settings), on_cpu=no_gpu(settings.device))


def examine(settings: Settings) -> list[Finding]:
    """The findings of `survey`, with time and money among them."""
    found, works = survey(settings)
    return [*found, *work_findings(works, settings)]


def examine_thoroughly(settings: Settings, *, measure: bool = False) -> list[Finding]:
    """Findings as of `examine`, but with the hub asked, frames read, and device and disks examined.

    Args:
        measure: whether to run two crops of each generator and three steps of each segmenter, and store the times.
    """
    models, dataset = examine_models(settings, ask_hub=True), examine_dataset(settings, look_inside=True)
    found = [*dataset.findings, *_prompts(settings), *_of(models), *examine_fid(settings)]
    device = find_device(settings.device)
    found += examine_device(settings, device, models)
    found += examine_disk(disk_needs(settings, dataset, models))
    if measure and not problems(found):
        found += calibrate(settings, "cuda" if device.gpu else "cpu", _calibration(settings))
    found += work_findings(work(settings, dataset, models, _measured(settings), on_cpu=not device.gpu), settings)
    return found if device.gpu else [*found, *gpu_time(work(settings, dataset, models, {}))]


def _of(models: list[Model]) -> list[Finding]:
    return [finding for model in models for finding in model.findings]


def _prompts(settings: Settings) -> list[Finding]:
    from instsynth_dagster.synthesis.prompts import prompt_bank

    found = []
    for name in settings.classes:
        try:
            prompt_bank(name, settings.prompts[name])
        except UserError as error:
            found.append(problem(str(error)))
    return found


def _calibration(settings: Settings) -> Path:
    return settings.artifacts.local / ".cache" / "calibration.json"


def _measured(settings: Settings) -> Mapping[str, float]:
    return read_calibration(_calibration(settings), settings)
