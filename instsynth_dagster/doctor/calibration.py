"""Times measured on this machine: two crops of each generator, a few training steps of each segmenter."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import BaseModel

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.opening import open_dataset
from instsynth_dagster.doctor.findings import Finding, fact, problem
from instsynth_dagster.errors import UserError
from instsynth_dagster.settings import Settings

_STEPS = 3
_FRAMES = 4


def read_calibration(file: Path, settings: Settings) -> Mapping[str, float]:
    """Seconds by section, of those measured under the current settings."""
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    sections = dict(_sections(settings))
    return {
        key: float(one["seconds"])
        for key, one in kept.items()
        if key in sections and one["recipe"] == _recipe(sections[key])
    }


def calibrate(settings: Settings, device: str, file: Path) -> Iterator[Finding]:
    """Measure every section, write the times to `file`, and yield them as findings.

    Args:
        device: "cpu" or "cuda".
    """
    kept = {}
    for key, section in _sections(settings):
        name = key.split(".")[1]
        try:
            measure = _picture if key.startswith("generators") else _step
            seconds = measure(settings, name, device)
        except UserError as error:
            yield problem(str(error))
            continue
        kept[key] = {"seconds": seconds, "recipe": _recipe(section)}
        yield fact(f"calibration: {key}: {seconds:.2f} s {'a crop' if key.startswith('generators') else 'a step'}")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(kept, indent=1).encode())


def _sections(settings: Settings) -> Iterator[tuple[str, BaseModel]]:
    yield from ((f"generators.{name}", section) for name, section in settings.generators.items())
    yield from ((f"segmenters.{name}", section) for name, section in settings.segmenters.items())


def _recipe(section: BaseModel) -> str:
    return hashlib.sha256(section.model_dump_json().encode()).hexdigest()


def _picture(settings: Settings, name: str, device: str) -> float:
    """Seconds of the second of two crops, one at a time; batches are faster for each crop."""
    from instsynth_dagster.synthesis.generators import load_generator

    given = settings.generators[name]
    generator = load_generator(name, given, device)
    images = np.random.default_rng(0).integers(0, 256, (1, given.size, given.size, 3), dtype=np.uint8)
    masks = np.zeros(images.shape[:3], bool)
    masks[:, given.size // 4 : -given.size // 4, given.size // 4 : -given.size // 4] = True
    subject = settings.classes[0]
    seconds = 0.0
    for seed in range(2):
        started = time.perf_counter()
        generator.fill(images, masks, [f"a photo of a {subject}"], [subject], [seed])
        seconds = time.perf_counter() - started
    return seconds


def _step(settings: Settings, name: str, device: str) -> float:
    """Mean seconds of training steps on real frames, without the first."""
    from instsynth_dagster.segmenters.contract import get_segmenter

    given = settings.segmenters[name]
    few = given.model_copy(update={"steps": _STEPS + 1, "checkpoint_every": _STEPS + 1, "processes": 1})
    data = open_dataset(settings)
    frames = data.frame_ids(settings.dataset.train_cities[0])[:_FRAMES]
    ticks: list[float] = []
    with TemporaryDirectory() as place:
        get_segmenter(given.kind).fit(
            _Frames(data, frames, len(settings.classes)),
            few,
            classes=settings.classes,
            seed=0,
            out=Path(place, "out"),
            scratch=Path(place, "scratch"),
            device=device,
            progress=lambda *_: ticks.append(time.perf_counter()),
        )
    spans = np.diff(ticks)
    return float(np.mean(spans[-_STEPS:])) if len(spans) else 0.0


@dataclass(frozen=True)
class _Frames:
    """A few real frames as a `SegmentationDataset`."""

    data: DataSet
    frames: Sequence[str]
    classes: int

    @property
    def labels(self) -> LabelTable:
        return self.data.labels

    @property
    def is_synthetic(self) -> np.ndarray:
        return np.zeros(len(self.frames), bool)

    @property
    def classes_in(self) -> np.ndarray:
        return np.ones((len(self.frames), self.classes), bool)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.data.image_and_ids(self.frames[index])
