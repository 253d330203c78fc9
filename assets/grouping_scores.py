"""The quality of separating the instances of semantic maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from assets.instances_from_semantics import load_siseg
from assets.shared.declaration import At, artifact
from assets.shared.made import Made, Markdown
from assets.shared.pictures import PICTURES, SHEET, grouping_sheet, sheet_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.metrics.coco_ap import coco_average_precision
from instsynth_dagster.evaluation.metrics.grouping import grouping_rows
from instsynth_dagster.evaluation.metrics.grouping import grouping_scores as grouping_means
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame
from instsynth_dagster.evaluation.tables.few_label_views import grouping_view
from instsynth_dagster.evaluation.tables.tables import leading_metric
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.graph.refs import each
from instsynth_dagster.segmenters.siseg.instances import connected_components, instance_table, numbered
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device

SHOWN = 4


def _can_predict(at: At) -> bool:
    """Whether the segmenter predicts semantic maps of its own."""
    return bool(at.settings.semantics and at.settings.semantics.segmenter.architecture.get("semantics"))


@artifact(
    "grouping_scores",
    code_version="2",
    when=lambda settings: settings.semantics and settings.dataset.val_cities,
    settings=["semantics.segmenter:inference", "classes", "evaluation"],
    values={"can_predict": _can_predict},
    reads=lambda at: [("siseg", UNPARTITIONED), *each("frames", at.settings.dataset.val_cities)],
    group="semantics",
    kinds={"pytorch", "cityscapes"},
)
def grouping_scores(
    out: PartitionWriter,
    _: str,
    settings: Settings,
    can_predict: bool,
    store: DeclaredStore,
    dataset: Dataset,
    device: Device,
) -> Made:
    """SISeg compared with connected components on the val cities, with true semantic maps and with predicted ones."""
    assert settings.semantics is not None
    classes, labels = settings.classes, dataset.labels
    predictor = load_siseg(settings.semantics, store, labels, device)

    def components(_: np.ndarray, semantic: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
        numbers = connected_components(semantic, classes, labels)
        table = instance_table(numbers, semantic, np.ones(semantic.shape), labels)
        return numbered(numbers, semantic, labels), table

    def siseg(image: np.ndarray, semantic: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
        return predictor.instances(image, semantic), predictor.table(image, semantic)

    frames = list(store.read_many("frames", store.declared("frames")).itertuples())
    rows: list[dict[str, Any]] = []
    shown: dict[str, list[np.ndarray]] = {}
    for source in ("true", "predicted") if can_predict else ("true",):
        given = [
            (image, ids, labels.label_ids(ids) if source == "true" else predictor.semantic_map(image))
            for image, ids in (_read(dataset, frame) for frame in frames)
        ]
        for method, group in (("connected components", components), ("siseg", siseg)):
            found = [group(image, semantic) for image, _, semantic in given]
            rows.append({"semantics": source, "method": method, **_score(given, found, classes, labels)})
            if source == "true":
                shown[method] = [own for own, _ in found]
    table = pd.DataFrame(rows)
    out.add_table(table)
    most = _most_touching([_read(dataset, frame) for frame in frames], classes, labels)
    sheet = grouping_sheet(most, shown, labels)
    (out.folder(PICTURES) / SHEET).write_bytes(encode_png(sheet))
    view = grouping_view(table, leading_metric(labels, settings.evaluation.protocol))
    return Made({"scores": Markdown(to_markdown(view)), "preview": sheet_preview(sheet)})


def _read(dataset: Dataset, frame: Any) -> tuple[np.ndarray, np.ndarray]:
    return dataset.image(frame), dataset.ids(frame)


def _most_touching(
    truth: list[tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...], labels: LabelTable
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The frames, by number, with most instances that touch another of their class."""
    touching = [int(grouping_rows(ids, ids, classes, labels)["touching"].sum()) for _, ids in truth]
    first = np.argsort(touching, kind="stable")[::-1][:SHOWN].tolist()
    return {number: truth[number] for number in first}


def _score(
    given: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    found: list[tuple[np.ndarray, pd.DataFrame]],
    classes: tuple[str, ...],
    labels: LabelTable,
) -> dict[str, float]:
    predicted = [(ids, table) for (_, ids, _), (_, table) in zip(given, found, strict=True)]
    scores = average_precision([match_frame(*frame, labels) for frame in predicted], classes)
    coco = coco_average_precision(predicted, classes, labels)
    rows = [grouping_rows(ids, own, classes, labels) for (_, ids, _), (own, _) in zip(given, found, strict=True)]
    aps = {"ap": scores.ap, "ap50": scores.ap50, "coco_ap": coco.ap, "coco_ap50": coco.ap50}
    return {**aps, **grouping_means(pd.concat(rows, ignore_index=True))}
