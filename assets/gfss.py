"""Generalised few-shot segmentation, with and without synthetic images of the shots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg
import numpy as np
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.stored import Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.evaluation.tables.few_label_views import gfss_view
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.few_shot.folds import Candidate, cityscapes_fold
from instsynth_dagster.few_shot.gfss import Known, class_map, fold_rows, summary
from instsynth_dagster.few_shot.synthesis import repainted_shots
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.generators import Generators
from resources.refining import FewShot


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    return [_scores(settings, graph), _table(graph)] if settings.few_shot else []


def _scores(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    chosen, cities = settings.few_shot, settings.dataset.train_cities
    assert chosen is not None

    @stored_asset(graph["gfss_scores"], graph, group="few_shot", kinds={"pytorch"})
    def gfss_scores(
        out: PartitionWriter, fold: str, store: Store, dataset: Dataset, generators: Generators, few_shot: FewShot
    ) -> Made:
        """Base, novel, mean and harmonic mIoU of one fold for each K and seed: a cosine head on frozen features whose
        novel rows are imprinted from K shots, and from K shots with images repainted from these shots alone."""
        novel = cityscapes_fold(int(fold), settings.classes)
        selected = {
            name: pd.concat(
                [store.read_lightly("selected_instances", f"{city}|{name}") for city in cities], ignore_index=True
            )
            for name in novel
        }
        known = _read(store, dataset, settings, few_shot)

        def repainted(frames: Sequence[str], name: str) -> Iterable[tuple[np.ndarray, np.ndarray]]:
            generator = str(chosen.generator)
            rows = selected[name]
            made = repainted_shots(
                rows[rows["frame_id"].isin(frames)],
                store.read("prompt_bank", name),
                lambda frame_id: known.images[frame_id],
                generators[generator],
                generator,
                settings.generators[generator],
                settings.integration,
                seed=settings.seed,
                replicas=chosen.replicas,
            )
            return ((shot.image, shot.mask) for shot in made)

        present = [name for name in novel if len(selected[name])]
        rows = fold_rows(
            known,
            {name: _candidates(selected, name, novel) for name in present},
            present,
            settings.classes,
            shots=chosen.shots,
            seeds=chosen.seeds,
            extract=few_shot.extractor,
            repainted=repainted if chosen.generator else None,
        )
        out.add_table(rows)
        best = rows.query("background == 'excluded'").groupby(["shots", "with_synthesis"])["novel"].mean()
        out.summary["novel"] = {f"{k} shots{', synthesis' * made}": float(v) for (k, made), v in best.items()}
        return Made({"novel_classes": ", ".join(present)})

    return gfss_scores


def _table(graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["gfss_table"], graph, group="few_shot", kinds={"pandas"})
    def gfss_table(out: PartitionWriter, _: str, store: Store) -> Made:
        """Mean over the folds, deviation over seeds, with and without synthesis, in both background conventions."""
        folds = graph["gfss_scores"].partitions
        table = summary(pd.concat([store.read("gfss_scores", fold).assign(fold=fold) for fold in folds]))
        out.add_table(table)
        return Made({"gfss": dg.MetadataValue.md(to_markdown(gfss_view(table)))})

    return gfss_table


def _candidates(selected: dict[str, pd.DataFrame], name: str, novel: Sequence[str]) -> list[Candidate]:
    """Train frames with a selected instance of the class, and the areas of the fold's novel classes in them."""
    areas = {other: selected[other].groupby("frame_id")["area"].sum() for other in novel if len(selected[other])}
    return [
        Candidate(frame, {other: int(found.get(frame, 0)) for other, found in areas.items()})
        for frame in areas[name].index
    ]


def _read(store: Store, dataset: Dataset, settings: Settings, few_shot: FewShot) -> Known:
    """All frames with their features, read and computed once for a fold."""
    images, labels, features, queries = {}, {}, {}, []
    for row in store.read_many("frames", settings.dataset.train_cities).itertuples():
        images[row.frame_id] = dataset.image(row)
        labels[row.frame_id] = class_map(dataset.ids(row), settings.classes)
        features[row.frame_id] = few_shot.extractor(images[row.frame_id])
    for row in store.read_many("frames", settings.dataset.val_cities).itertuples():
        queries.append((few_shot.extractor(dataset.image(row)), class_map(dataset.ids(row), settings.classes)))
    return Known(images, labels, features, queries)
