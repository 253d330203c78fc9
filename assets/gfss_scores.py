"""Generalised few-shot segmentation, with and without synthetic images of the shots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from assets.shared.declaration import At, artifact
from assets.shared.made import Made
from assets.shared.painting import with_words
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.few_shot.folds import FOLDS, class_fold
from instsynth_dagster.few_shot.gfss import FoldFrames, class_map, fold_rows, shot_candidates
from instsynth_dagster.few_shot.synthesis import repainted_shots
from instsynth_dagster.graph.refs import all_cities, city_classes, each, words_for
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.generators import Generators
from resources.refining import Refining

if TYPE_CHECKING:
    from instsynth_dagster.refinement.features import Extractor


def _settings(at: At) -> list[str]:
    assert at.settings.few_shot is not None
    generator = at.settings.few_shot.generator
    painter = [f"generators.{generator}"] if generator else []
    return ["few_shot", "integration.feather", "integration.color_match", "seed", "classes", "dataset.root", *painter]


def _words(at: At) -> list[PartitionRef]:
    assert at.settings.few_shot is not None
    novel = class_fold(int(at["fold"]), at.settings.classes) if at.settings.few_shot.generator else ()
    return words_for(at.settings, at.settings.dataset.train_cities, novel)


@artifact(
    "gfss_scores",
    code_version="2",
    when=lambda settings: settings.few_shot,
    dimensions=lambda settings: {"fold": tuple(str(fold) for fold in range(FOLDS))},
    settings=_settings,
    reads=lambda at: [
        ("splits", UNPARTITIONED),
        *each("frames", all_cities(at.settings)),
        *each("instances", at.settings.dataset.train_cities),
        *each("selected_instances", city_classes(at.settings)),
        *each("prompt_bank", class_fold(int(at["fold"]), at.settings.classes)),
        *_words(at),
    ],
    group="few_shot",
    kinds={"pytorch"},
)
def gfss_scores(
    out: PartitionWriter,
    fold: str,
    settings: Settings,
    store: DeclaredStore,
    dataset: Dataset,
    generators: Generators,
    refining: Refining,
) -> Made:
    """Base, novel, mean and harmonic mIoU of one fold for each K and seed: a cosine head on frozen features whose novel
    rows are imprinted from K shots, with and without images repainted from these shots alone.
    """
    chosen = settings.few_shot
    assert chosen is not None
    novel = class_fold(int(fold), settings.classes)
    selected = {
        name: store.read_many(
            "selected_instances",
            [key for key in store.declared("selected_instances") if key.split("|")[1] == name],
            lazily=True,
        )
        for name in novel
    }
    extract = refining.extractor(chosen.features)
    known = _read(store, dataset, settings.classes, extract)

    def repainted(frames: Sequence[str], name: str) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        generator = str(chosen.generator)
        rows, bank = selected[name], store.read("prompt_bank", name)
        made = repainted_shots(
            with_words(rows[rows["frame_id"].isin(frames)], bank, store),
            bank,
            lambda frame_id: known.images[frame_id],
            generators.load(generator, settings.generators[generator]),
            generator,
            settings.generators[generator],
            settings.integration,
            seed=settings.seed,
            replicas=chosen.replicas,
        )
        return ((shot.image, shot.mask) for shot in made)

    present = [name for name in novel if len(selected[name])]
    instances = store.read_many("instances", store.declared("instances"))
    rows = fold_rows(
        known,
        {name: shot_candidates(selected[name], instances, novel) for name in present},
        present,
        settings.classes,
        shots=chosen.shots,
        seeds=chosen.seeds,
        extract=extract,
        repainted=repainted if chosen.generator else None,
    )
    out.add_table(rows)
    best = rows.query("background == 'excluded'").groupby(["shots", "with_synthesis"])["novel"].mean()
    out.summary["novel"] = {f"{k} shots{', synthesis' * made}": float(v) for (k, made), v in best.items()}
    return Made({"novel_classes": ", ".join(present)})


def _read(store: DeclaredStore, dataset: Dataset, classes: tuple[str, ...], extract: Extractor) -> FoldFrames:
    """All frames with their features, read and computed once for a fold."""
    images, labels, features, queries = {}, {}, {}, []
    for city, split in store.read("splits").itertuples(index=False):
        for row in store.read("frames", city).itertuples():
            image, truth = dataset.image(row), class_map(dataset.ids(row), classes, dataset.labels)
            if split == "train":
                images[row.frame_id], labels[row.frame_id] = image, truth
                features[row.frame_id] = extract(image)
            else:
                queries.append((extract(image), truth))
    return FoldFrames(images, labels, features, queries)
