"""The machine: its device, and whether memory and disk are sufficient."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from instsynth_dagster.doctor.findings import Finding, fact, gigabytes, problem, warning
from instsynth_dagster.doctor.models import Model
from instsynth_dagster.settings import GeneratorSettings, SegmenterSettings, Settings

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Device files of the drivers of CUDA, of CUDA in WSL, and of ROCm."""
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_DECODER_BYTES = 1500
"""Activations of an autoencoder for each pixel that it decodes; multiplied by the bytes of a number."""
_TRAINING_BYTES = 10_000
"""Bytes of activations for each pixel of a training crop in float32, with a backbone of ImageNet size."""
_ADAM = 16
"""Bytes for each trained parameter: itself, its gradient, and two moments, in float32."""


@dataclass(frozen=True)
class Device:
    """The device that models run on; `memory` in bytes, of the GPU or of the machine."""

    name: str
    memory: int
    gpu: bool
    bfloat16: bool


def no_gpu(required: str) -> bool:
    """Whether a setting `device` means the CPU on this machine, judged from the drivers' device files without any
    import.
    """
    return required == "cpu" or (required == "auto" and not any(Path(file).exists() for file in _DRIVERS))


def find_device(required: str) -> Device:
    """The device of the settings. Imports torch."""
    import torch

    if required != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device(properties.name, properties.total_memory, True, torch.cuda.is_bf16_supported())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(f"{os.cpu_count()} CPU cores", memory, False, True)


def examine_device(settings: Settings, device: Device, models: Sequence[Model]) -> list[Finding]:
    """Whether the device exists, supports the number formats, and has memory for each model; memory is a rough
    estimate.
    """
    found = [fact(f"device: {device.name}, {gigabytes(device.memory)}")]
    if settings.device == "cuda" and not device.gpu:
        found.append(problem("device: cuda is asked for and no CUDA device is found"))
    elif not device.gpu:
        found.append(warning("device: no GPU is found, everything runs on the CPU"))
    for key, need, dtype in (*_generators(settings, models), *_segmenters(settings, models)):
        if dtype == "bfloat16" and not device.bfloat16:
            found.append(problem(f"{key}: this device has no bfloat16; set float16"))
        if need > device.memory:
            found.append(
                warning(f"{key}: wants about {gigabytes(need)}, the device has {gigabytes(device.memory)}; {_REMEDY}")
            )
        elif need:
            found.append(fact(f"{key}: about {gigabytes(need)} of the device's memory"))
    return found


_REMEDY = "lower batch_size; a generator halves it by itself, a training with gradient_checkpointing needs less"


def _generators(settings: Settings, models: Sequence[Model]) -> Iterator[tuple[str, float, str]]:
    for model in models:
        if model.required.pipeline:
            generator = settings.generators[model.required.key.split(".")[1]]
            need = generator_memory(generator, model.weight_bytes) if model.weight_bytes else 0.0
            yield model.required.key.removesuffix(".model"), need, generator.dtype


def generator_memory(settings: GeneratorSettings, weight_bytes: int) -> float:
    """Bytes that a generator needs; `weight_bytes` is the size of its files, in half precision where a variant
    says so.
    """
    stored = 2 if settings.variant in ("fp16", "bf16") else 4
    number = _BYTES[settings.dtype]
    return weight_bytes / stored * number + settings.batch_size * settings.size**2 * _DECODER_BYTES * number


def _segmenters(settings: Settings, models: Sequence[Model]) -> Iterator[tuple[str, float, str]]:
    size = {model.required.key: model.weight_bytes for model in models if model.required.with_weights}
    for name, segmenter in settings.segmenters.items():
        key = f"segmenters.{name}"
        weights = size.get(f"{key}.model") or size.get(f"{key}.backbone") or _shared_weights(segmenter, models)
        if weights:
            dtype = {"bf16": "bfloat16", "fp16": "float16"}.get(segmenter.mixed_precision, "float32")
            yield key, training_memory(segmenter, weights), dtype


def _shared_weights(segmenter: SegmenterSettings, models: Sequence[Model]) -> int:
    """Bytes of the weights of a model that another section named first."""
    return next((model.weight_bytes for model in models if model.required.source == segmenter.start), 0)


def training_memory(settings: SegmenterSettings, weight_bytes: int) -> float:
    """Bytes that one process of a training needs."""
    share = settings.batch_size / settings.processes
    pixels = settings.crop[0] * settings.crop[1] * share
    kept = (0.6 if settings.mixed_precision != "no" else 1.0) * (0.4 if settings.gradient_checkpointing else 1.0)
    return weight_bytes / 4 * _ADAM + pixels * _TRAINING_BYTES * kept


def examine_disk(needs: Sequence[tuple[str, Path, float]]) -> list[Finding]:
    """Whether the file systems have room; `needs` holds description, folder and upper bound in bytes of the files to be
    written.
    """
    found, by_disk = list[Finding](), dict[int, tuple[Path, float]]()
    for what, place, size in needs:
        folder = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
        disk = folder.stat().st_dev
        by_disk[disk] = by_disk.get(disk, (folder, 0.0))[0], by_disk.get(disk, (folder, 0.0))[1] + size
        if size:
            found.append(fact(f"disk: {what}: {gigabytes(size)} below {place}"))
    for folder, size in by_disk.values():
        free = shutil.disk_usage(folder).free
        line = f"disk: {gigabytes(size)} at most are to be written where {folder} lies, {gigabytes(free)} are free"
        found.append(warning(line) if size > free else fact(line))
    return found
