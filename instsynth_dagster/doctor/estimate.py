"""An estimate of the output of a params file: crops, windows, trainings, bytes, and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from instsynth_dagster.doctor.dataset import DatasetFacts
from instsynth_dagster.doctor.findings import Finding, duration, fact, warning
from instsynth_dagster.doctor.models import Model
from instsynth_dagster.graph.arms import run_dimensions, window_arms, window_generators, window_replicas
from instsynth_dagster.settings import GeneratorSettings, SegmenterSettings, Settings

_PICTURE_FLOPS = 1.5e14
"""Operations per second of a diffusion model on an H100 in half precision; half as many in float32."""
_TRAINING_FLOPS = 6e13
_CPU_PICTURE_FLOPS, _CPU_TRAINING_FLOPS = 3e9, 1e10
"""Operations per second of the demo's models on a busy CPU core."""
_DENOISERS = {
    "blendeddiff": 2.6e9,
    "controlnet_inpaint": 1.23e9,
    "diffinpainting": 0.87e9,
    "gligen": 1.1e9,
    "sdxl_inpaint": 2.6e9,
}
_DENOISER = 10e9
"""Parameters of the published denoiser of each kind, used where no files are on disk; else those of a large one."""
_STEP = 0.2
"""Seconds of a training step that do not depend on the device: reading, matching, losses."""
_IDS = 0.05
"""Size of an id map relative to its window."""
_OF_PNG = {"png": 1.0, "webp": 0.65, "jpeg": 0.3}
"""Size of a stored window relative to PNG."""


@dataclass(frozen=True)
class Work:
    """One kind of work on the device: its section, its description, how often it is done, and seconds each time."""

    key: str
    what: str
    times: int
    each: float
    measured: bool
    on_cpu: bool = False

    @property
    def seconds(self) -> float:
        """Total seconds of the work."""
        return self.times * self.each


def selected(settings: Settings, train_frames: int) -> int:
    """Upper bound on the number of selected instances."""
    most = settings.selection.k * train_frames
    if settings.selection.policy == "paper":
        return most
    return min(most, settings.selection.quota * len(settings.classes) * len(settings.dataset.train_cities))


def anonymised(settings: Settings, dataset: DatasetFacts) -> int:
    """Number of repaintings that anonymise, spares included, estimated from the sampled train frames."""
    if not settings.anonymise:
        return 0
    frames = dataset.train_frames + dataset.val_frames
    instances = frames * sum(dataset.per_frame.get(name, 0.0) for name in settings.anonymise.classes)
    return ceil(instances) * (1 + settings.gates.spares)


def drawn(settings: Settings, generator: GeneratorSettings, instances: int) -> int:
    """Number of repaintings of a generator, spares included."""
    return instances * (generator.replicas + settings.gates.spares)


def disk_needs(settings: Settings, dataset: DatasetFacts, models: Sequence[Model]) -> list[tuple[str, Path, float]]:
    """Files to be written: description, folder, and upper bound in bytes."""
    from huggingface_hub import constants

    instances, store = selected(settings, dataset.train_frames), settings.artifacts.local
    width, height = settings.integration.window_size
    as_png = width * height * dataset.bytes_per_pixel
    window = as_png * (_OF_PNG[settings.integration.stored_as] + _IDS)
    windows = sum(
        instances * (settings.generators[arm].replicas if arm in settings.generators else window_replicas(settings))
        for arm in window_arms(settings)
    )
    crops = sum(
        drawn(settings, generator, instances) * generator.size**2 * dataset.bytes_per_pixel
        for generator in settings.generators.values()
    )
    cache, exports = Path(constants.HF_HUB_CACHE), settings.artifacts.exports
    runs = _runs(settings)
    trained = sum(_weights(f"segmenters.{name}", models, segmenter) for name, segmenter in settings.segmenters.items())
    return [
        ("models to download", cache, sum(model.missing_bytes for model in models)),
        ("models to convert", cache, sum(model.converted_bytes for model in models)),
        ("crops", store, crops),
        (f"{windows:,} windows", store, windows * window),
        *([("exports of the windows", exports, windows * as_png * (1 + _IDS))] if exports else []),
        ("trained segmenters", store, runs * trained),
    ]


def work(
    settings: Settings,
    dataset: DatasetFacts,
    models: Sequence[Model],
    measured: Mapping[str, float],
    on_cpu: bool = False,
) -> list[Work]:
    """The work that the device would do.

    Args:
        measured: seconds of one repainting by `generators.<name>`, and of one training step by `segmenters.<name>`, on
            this machine.
        on_cpu: whether times that were not measured are assumed for a CPU core; otherwise for an H100.
    """
    found = []
    instances, windows = selected(settings, dataset.train_frames), window_generators(settings)
    for name, generator in settings.generators.items():
        key = f"generators.{name}"
        each = measured.get(key) or _picture_seconds(generator, _denoiser_weights(generator, models), on_cpu)
        if name in windows:
            times = drawn(settings, generator, instances)
            found.append(Work(key, "repaintings", times, each, key in measured, on_cpu))
        if settings.anonymise and name == settings.anonymise.generator:
            times = anonymised(settings, dataset)
            found.append(Work(key, "repaintings that anonymise", times, each, key in measured, on_cpu))
    for name, segmenter in settings.segmenters.items():
        key = f"segmenters.{name}"
        step = measured.get(key) or _step_seconds(segmenter, _weights(key, models, segmenter), on_cpu)
        what = f"trainings of {segmenter.steps:,} steps"
        found.append(Work(key, what, _runs(settings), segmenter.steps * step, key in measured, on_cpu))
        if judges := _mask_judges(settings, name):
            what = f"trainings of judges, {segmenter.steps:,} steps each"
            found.append(Work(key, what, judges, segmenter.steps * step, key in measured, on_cpu))
    return found


def _mask_judges(settings: Settings, segmenter: str) -> int:
    """Number of trainings of a segmenter that gives a second opinion."""
    masks = settings.judge.masks if settings.judge else None
    own = masks and masks.segmenter == segmenter and not masks.checkpoint
    return len(settings.dataset.train_cities) if own else 0


def _runs(settings: Settings) -> int:
    return len(run_dimensions(settings)["run"]) if settings.segmenters and settings.dataset.val_cities else 0


def _weights(key: str, models: Sequence[Model], segmenter: SegmenterSettings | None = None) -> int:
    """Bytes of the files of a section's model; 100 MB where they are unknown."""
    source = segmenter.start if segmenter else None
    for model in models:
        if model.weight_bytes and (model.required.key.startswith(f"{key}.") or model.required.source == source):
            return model.weight_bytes
    return 100_000_000


def _denoiser_weights(settings: GeneratorSettings, models: Sequence[Model]) -> float:
    """Number of parameters of a generator's denoiser."""
    for model in models:
        if model.denoiser_bytes and model.required.source == settings.model:
            return model.denoiser_bytes / (2 if settings.variant in ("fp16", "bf16") else 4)
    return _DENOISERS.get(settings.kind, _DENOISER)


def _picture_seconds(settings: GeneratorSettings, weights: float, on_cpu: bool) -> float:
    """Seconds of a repainting: each parameter is used about once for every eight cells of the latent in each step,
    twice with guidance.
    """
    cells = (settings.size / 8) ** 2
    passes = max(1, int(settings.steps * settings.strength)) * (2 if settings.guidance > 1 else 1)
    speed = _CPU_PICTURE_FLOPS if on_cpu else _PICTURE_FLOPS / (1 if settings.dtype != "float32" else 2)
    return 2 * weights * cells / 8 * passes / speed


def _step_seconds(settings: SegmenterSettings, weight_bytes: int, on_cpu: bool) -> float:
    """Seconds of a training step: ten operations for each parameter and 32 x 32 pixels forward, and twice that
    backward.
    """
    pixels = settings.crop[0] * settings.crop[1] * settings.batch_size / settings.processes
    again = 4 if settings.gradient_checkpointing else 3
    return _STEP + 10 * weight_bytes / 4 * pixels / 1024 * again / (_CPU_TRAINING_FLOPS if on_cpu else _TRAINING_FLOPS)


def gpu_time(works: Sequence[Work]) -> Iterator[Finding]:
    """Finding on the total time of works that are assumed for one H100, for a machine without a GPU."""
    if total := sum(one.seconds for one in works):
        yield fact(f"time: on one H100 at most {duration(total)} (assumed)")


def work_findings(works: Sequence[Work], settings: Settings) -> Iterator[Finding]:
    """Findings on time and money, as an upper bound with its assumptions."""
    for one in works:
        how = "measured here" if one.measured else f"assumed for one {'CPU core' if one.on_cpu else 'H100'}"
        yield fact(f"time: {one.key}: {one.what}: {one.times:,} x {one.each:,.2f} s = {duration(one.seconds)} ({how})")
    total = sum(one.seconds for one in works)
    if not total:
        return
    price = settings.costs.price_per_hour
    money = f", {total / 3600 * price:,.0f} {settings.costs.currency} at {price:g} an hour" if price else ""
    rest = "" if all(one.measured for one in works) else "; make doctor CALIBRATE=1 measures what is assumed"
    bound = "nothing made before is reused, one crop at a time"
    text = f"time: at most {duration(total)} of one device{money}, where {bound}{rest}"
    budget = settings.costs.device_hours
    yield warning(f"{text}; more than costs.device_hours") if budget and total > budget * 3600 else fact(text)
