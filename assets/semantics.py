"""Instances from semantic maps (SISeg), and how well they are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from assets.data import leaked_frames
from assets.shared.partitions import Graph
from assets.shared.pictures import PICTURES, SHEET, curve_picture, grouping_sheet, ids_preview, sheet_preview
from assets.shared.stored import Check, Made, stored_asset
from assets.training import train_into
from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.data.formats.cityscapes import (
    LABEL_BY_ID,
    Frame,
    label_ids,
    list_semantic_frames,
    read_image,
    read_label_ids,
)
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.data.near_duplicates import perceptual_hash
from instsynth_dagster.evaluation.metrics.grouping import grouping_rows, grouping_scores
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame
from instsynth_dagster.evaluation.tables.few_label_views import grouping_view
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.siseg.instances import connected_components, instance_table, numbered
from instsynth_dagster.segmenters.training.samples import ArmDataset, frame_samples
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device
from resources.progress import progress_bar

SHOWN = 4


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if settings.semantics is None:
        return []
    assets = [_siseg(settings, graph), _instances(settings, graph)]
    return [*assets, _scores(settings, graph)] if "grouping_scores" in graph else assets


def _siseg(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    chosen, cities = settings.semantics, settings.dataset.train_cities
    assert chosen is not None

    @stored_asset(graph["siseg"], graph, group="semantics", kinds={"pytorch"})
    def siseg(out: PartitionWriter, _: str, store: Store, dataset: Dataset, device: Device) -> Made:
        """Displacement field and boundaries that tell the instances of a semantic map apart, learnt on the train
        cities: from their classes alone, or from their instances (SISeg; the gauge term is ours)."""
        frames, instances = store.read_many("frames", cities), store.read_many("instances", cities)
        data = ArmDataset(frame_samples(frames, instances, settings.classes), dataset.root, store, None)
        recipe = chosen.segmenter
        fit = get_segmenter(recipe.kind).fit
        training = partial(fit, data, recipe, classes=settings.classes, seed=chosen.seed)
        result = train_into(out, "training siseg", recipe, device, training)
        return Made({"loss_curve": curve_picture(result.curve)})

    return siseg


def _load(settings: Settings, store: Store, device: Device) -> Any:
    assert settings.semantics is not None
    recipe = settings.semantics.segmenter
    return get_segmenter(recipe.kind).load(store.folder("siseg", "all", "checkpoint"), recipe, device=device.name)


def _instances(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    chosen = settings.semantics
    assert chosen is not None

    checks = {"no_val_frame": "No frame that becomes training data is also a val frame, or nearly so."}

    @stored_asset(graph["instances_from_semantics"], graph, group="semantics", kinds={"pytorch"}, checks=checks)
    def instances_from_semantics(
        out: PartitionWriter, city: str, store: Store, dataset: Dataset, device: Device
    ) -> Made:
        """Instance id maps of a city that has semantic maps only (labelIds, or what a segmenter predicts)."""
        frames = list_semantic_frames(dataset.root, city)
        leaked = _no_val_frame(frames, settings, store)
        if not leaked.passed:
            return Made(checks=(leaked,))
        predictor = _load(settings, store, device)
        shown: list[tuple[np.ndarray, np.ndarray]] = []
        with progress_bar(f"telling instances of {city} apart", len(frames)) as progress:
            for number, frame in enumerate(frames):
                if number < out.resumed_rows:
                    continue
                image = read_image(frame.image)
                known = chosen.source == "labels"
                labels = read_label_ids(frame.ids) if known else predictor.semantic_map(image)
                ids = predictor.instances(image, labels)
                out.add(_row(frame, dataset, ids))
                if len(shown) < SHOWN:
                    shown.append((image, ids))
                progress(number + 1, len(frames))
        out.summary["frames"] = len(frames)
        return Made({"preview": ids_preview(shown)} if shown else {}, (leaked,))

    return instances_from_semantics


def _no_val_frame(frames: Sequence[Frame], settings: Settings, store: Store) -> Check:
    """Cities outside `splits` pass no other gate."""
    hashes = [perceptual_hash(read_image(frame.image)) for frame in frames]
    known = pd.DataFrame(
        {
            "frame_id": [frame.frame_id for frame in frames],
            "image_sha256": [file_sha256(frame.image) for frame in frames],
            "perceptual_hash": hashes,
            "mirrored_hash": hashes,
            "split": "train",
        }
    )
    val = [store.read("frames", city, list(known)[:-1]).assign(split="val") for city in settings.dataset.val_cities]
    leaks = leaked_frames(pd.concat([known, *val]))
    return Check(
        "no_val_frame", not leaks, f"{leaks[0]}; remove one of the two" if leaks else "no val frame among them"
    )


def _row(frame: Any, dataset: Dataset, ids: np.ndarray) -> dict[str, Any]:
    encoded = encode_png(ids.astype(np.uint16))
    values = np.unique(ids[ids >= 1000]).tolist()
    return {
        "frame_id": frame.frame_id,
        "image": frame.image.relative_to(dataset.root).as_posix(),
        "image_sha256": file_sha256(frame.image),
        "ids_png": encoded,
        "ids_sha256": hashlib.sha256(encoded).hexdigest(),
        "instance_classes": [LABEL_BY_ID[value // 1000].name for value in values],
    }


Told = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, pd.DataFrame]]
"""Image and label ids -> instance ids and prediction table."""


def _scores(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    classes = settings.classes
    assert settings.semantics is not None
    can_predict = bool(settings.semantics.segmenter.architecture.get("semantics"))

    def components(_: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
        numbers = connected_components(labels, classes)
        return numbered(numbers, labels), instance_table(numbers, labels, np.ones(labels.shape))

    @stored_asset(graph["grouping_scores"], graph, group="semantics", kinds={"pytorch", "cityscapes"})
    def grouping_scores_asset(out: PartitionWriter, _: str, store: Store, dataset: Dataset, device: Device) -> Made:
        """On the val cities: SISeg against connected components, with true semantic maps and with predicted ones."""
        predictor = _load(settings, store, device)

        def siseg(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
            return predictor.instances(image, labels), predictor.table(image, labels)

        frames = list(store.read_many("frames", settings.dataset.val_cities).itertuples())
        rows: list[dict[str, Any]] = []
        shown: dict[str, list[np.ndarray]] = {}
        for source in ("true", "predicted") if can_predict else ("true",):
            given = [
                (image, ids, label_ids(ids) if source == "true" else predictor.semantic_map(image))
                for image, ids in (_read(dataset, frame) for frame in frames)
            ]
            for method, told in (("connected components", components), ("siseg", siseg)):
                found = [told(image, labels) for image, _, labels in given]
                rows.append({"semantics": source, "method": method, **_score(given, found, classes)})
                if source == "true":
                    shown[method] = [own for own, _ in found]
        table = pd.DataFrame(rows)
        out.add_table(table)
        sheet = grouping_sheet(_most_touching([_read(dataset, frame) for frame in frames], classes), shown)
        (out.folder(PICTURES) / SHEET).write_bytes(encode_png(sheet))
        return Made({"scores": dg.MetadataValue.md(to_markdown(grouping_view(table))), "preview": sheet_preview(sheet)})

    return grouping_scores_asset


def _read(dataset: Dataset, frame: Any) -> tuple[np.ndarray, np.ndarray]:
    return dataset.image(frame), dataset.ids(frame)


def _most_touching(
    truth: list[tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The frames, by number, in which most instances touch another of their class."""
    touching = [int(grouping_rows(ids, ids, classes)["touching"].sum()) for _, ids in truth]
    first = np.argsort(touching, kind="stable")[::-1][:SHOWN].tolist()
    return {number: truth[number] for number in first}


def _score(
    given: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    found: list[tuple[np.ndarray, pd.DataFrame]],
    classes: tuple[str, ...],
) -> dict[str, float]:
    matches = [match_frame(ids, table) for (_, ids, _), (_, table) in zip(given, found, strict=True)]
    scores = average_precision(matches, classes)
    rows = [grouping_rows(ids, own, classes) for (_, ids, _), (own, _) in zip(given, found, strict=True)]
    return {"ap": scores.ap, "ap50": scores.ap50, **grouping_scores(pd.concat(rows, ignore_index=True))}
