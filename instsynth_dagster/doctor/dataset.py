"""The data set: whether it can be read, and its contents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.data.images import encode_png, resize_image
from instsynth_dagster.data.instances import instance_areas
from instsynth_dagster.data.opening import open_dataset
from instsynth_dagster.doctor.findings import Finding, fact, problem, warning
from instsynth_dagster.errors import UserError
from instsynth_dagster.graph.refs import all_cities, scored_cities
from instsynth_dagster.settings import Settings
from instsynth_dagster.settings.drawn import drawn_cities

_SAMPLE = 24
_SIZED = 3


@dataclass(frozen=True)
class DatasetFacts:
    """Numbers of train and of val and test frames; PNG bytes of a window of the configured size per pixel; and the mean
    number of instances of each class in the sampled frames.
    """

    train_frames: int
    val_frames: int
    bytes_per_pixel: float
    findings: tuple[Finding, ...]
    per_frame: Mapping[str, float] = field(default_factory=dict)


def examine_dataset(settings: Settings, look_inside: bool) -> DatasetFacts:
    """List every frame and, with `look_inside`, read some that are evenly spread over the train cities."""
    dataset = settings.dataset
    drawn = drawn_cities(dataset.root) if dataset.demo_city else set()
    if dataset.demo_city and not drawn:
        demo = dataset.demo_city
        train_count, count = demo.frames_per_city, demo.scored_frames or demo.frames_per_city
        fresh = fact(f"dataset.root: {dataset.root}: not there yet; the demo draws it")
        val_frames = count * len(scored_cities(settings))
        return DatasetFacts(train_count * len(dataset.train_cities), val_frames, _BYTES_PER_PIXEL, (fresh,))
    try:
        data = open_dataset(settings)
    except UserError as error:
        return DatasetFacts(0, 0, _BYTES_PER_PIXEL, (problem(str(error)),))
    to_draw = [city for city in all_cities(settings) if dataset.demo_city and city not in drawn]
    train, found = _listed(data, [city for city in dataset.train_cities if city not in to_draw])
    val, more = _listed(data, [city for city in scored_cities(settings) if city not in to_draw])
    more += [warning(f"dataset.root: {dataset.root}: {city} is not there yet; the demo draws it") for city in to_draw]
    found += more
    if train or val:
        found.append(fact(f"dataset.root: {dataset.root}: {len(train)} train frames, {len(val)} val and test frames"))
    size, per_frame = _BYTES_PER_PIXEL, dict[str, float]()
    if look_inside and train:
        sample = train[:: max(1, len(train) // _SAMPLE)][:_SAMPLE]
        inside, size, counts = _examine_sample(settings, data, sample)
        found += inside
        per_frame = {name: count / len(sample) for name, count in counts.items()}
    return DatasetFacts(len(train), len(val), size, tuple(found), per_frame)


_BYTES_PER_PIXEL = 1.1
"""PNG bytes per pixel of an enlarged photograph, used where no frame is read."""


def _listed(data: DataSet, cities: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Frame ids."""
    frames: list[str] = []
    for city in cities:
        try:
            frames += data.frame_ids(city)
        except UserError as error:
            return frames, [problem(str(error))]
    return frames, []


def _examine_sample(
    settings: Settings, data: DataSet, sample: Sequence[str]
) -> tuple[list[Finding], float, Counter[str]]:
    """Findings about a sample, the bytes per pixel of its windows, and instances of each class."""
    found: list[Finding] = []
    counts: Counter[str] = Counter()
    groups, shapes, sizes = 0, Counter[tuple[int, ...]](), list[float]()
    labels = data.labels
    for frame_id in sample:
        try:
            image, ids = data.image_and_ids(frame_id)
        except UserError as error:
            found.append(problem(str(error)))
            continue
        shapes[image.shape[:2]] += 1
        if len(sizes) < _SIZED:
            sizes.append(_window_bytes(image))
        for value in instance_areas(ids):
            name = labels.label_of(value).name
            if name in settings.classes:
                groups += value < labels.factor
                counts[name] += value >= labels.factor
    of_sample = partial("{}: {}".format, f"in {len(sample)} train frames")
    if counts:
        found.append(fact(of_sample(f"{_counts_text(counts)}; {groups} groups, which are never selected")))
    missing = [name for name in settings.classes if not counts[name]]
    if missing:
        found.append(warning(of_sample(f"no {', no '.join(missing)}")))
    if len(shapes) > 1:
        found.append(warning(of_sample("sizes differ: " + ", ".join(f"{w}x{h}" for h, w in shapes))))
    return found, float(np.mean(sizes)) if sizes else _BYTES_PER_PIXEL, counts


def _counts_text(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())


def _window_bytes(image: np.ndarray) -> float:
    """PNG bytes per pixel of a window that is enlarged twofold, as most are."""
    height, width = image.shape[:2]
    window = image[height // 4 : height // 4 + max(1, height // 2), width // 4 : width // 4 + max(1, width // 2)]
    enlarged = resize_image(window, (window.shape[1] * 2, window.shape[0] * 2))
    return len(encode_png(enlarged)) / (enlarged.shape[0] * enlarged.shape[1])
