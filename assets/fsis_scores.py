"""Few-shot instance segmentation, with and without repaintings of the shots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from assets.shared.declaration import At, all_but, artifact
from assets.shared.made import Check, Made
from assets.shared.painting import with_words
from assets.shared.pictures import predictions_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.few_shot.instances import Samples, draw_instances, shot_samples, synthetic_samples
from instsynth_dagster.few_shot.synthesis import Repainted, repainted_shots
from instsynth_dagster.few_shot.systems import scores, tuned_systems
from instsynth_dagster.few_shot.tasks import FewShotTask
from instsynth_dagster.graph.refs import all_cities, city_classes, each, words_for
from instsynth_dagster.settings import FewShotInstanceSettings, IntegrationSettings, Settings
from resources.dataset import Dataset
from resources.device import Device
from resources.generators import Generators
from resources.progress import progress_bar

CHECKS = {"only_the_shots": "Every synthetic window was made from one of the K shots, and no shot is of a val city."}
SHOWN = 4


def _chosen(settings: Settings) -> FewShotInstanceSettings:
    assert settings.few_shot_instances is not None
    return settings.few_shot_instances


def tasks(settings: Settings) -> tuple[str, ...]:
    """Names of the tasks: each K with each seed."""
    chosen = _chosen(settings)
    return tuple(FewShotTask(shots, seed).name for shots in chosen.shots for seed in chosen.seeds)


def _settings(at: At) -> list[str]:
    painter = _chosen(at.settings).generator
    return [
        *all_but({"shots", "seeds"}, FewShotInstanceSettings, "few_shot_instances"),
        *([f"generators.{painter}"] if painter else []),
        *all_but({"stored_as"}, IntegrationSettings, "integration"),
        "seed",
        "classes",
        "dataset.root",
    ]


@artifact(
    "fsis_scores",
    code_version="3",
    when=lambda settings: settings.few_shot_instances,
    dimensions=lambda settings: {"task": tasks(settings)},
    settings=_settings,
    reads=lambda at: [
        ("splits", UNPARTITIONED),
        *each("fsis_base", _chosen(at.settings).systems),
        *each("frames", all_cities(at.settings)),
        *each("selected_instances", city_classes(at.settings)),
        *each("prompt_bank", _chosen(at.settings).novel),
        *words_for(
            at.settings,
            at.settings.dataset.train_cities,
            _chosen(at.settings).novel if _chosen(at.settings).generator else (),
        ),
    ],
    group="few_shot",
    kinds={"pytorch", "cityscapes"},
    checks=CHECKS,
)
def fsis_scores(
    out: PartitionWriter,
    key: str,
    settings: Settings,
    store: DeclaredStore,
    dataset: Dataset,
    generators: Generators,
    device: Device,
) -> Made:
    """AP of base, novel and all classes after fine-tuning every system on K instances of each class, with and without
    repaintings of the novel ones; for MaskDiff also the mask IoU given true boxes.
    """
    chosen, task = _chosen(settings), FewShotTask.parse(key)
    splits = store.read("splits")
    drawn = _Shots(settings, store, dataset, generators, task, splits.loc[splits["split"] == "train", "city"].tolist())
    frames = [
        (dataset.image(row), dataset.ids(row))
        for row in store.read_many("frames", splits.loc[splits["split"] == "val", "city"]).itertuples()
    ]
    bases = {name: store.folder("fsis_base", name, "checkpoint") for name in chosen.systems}
    arms = {False: drawn.real} | ({True: [*drawn.real, *drawn.synthetic()]} if chosen.generator else {})
    rows: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {}
    with progress_bar(f"{key}: fine-tuning", len(arms) * len(chosen.systems)) as progress:
        for made, samples in arms.items():
            tuned = tuned_systems(
                chosen.systems,
                bases,
                Samples(samples, settings.classes, dataset.labels),
                settings.classes,
                shots=task.shots,
                seed=task.seed,
                scratch=out.scratch() / str(made),
                device=device.name,
            )
            for system in tuned:
                found = scores(system.predictor, frames, settings.classes, chosen.novel, dataset.labels)
                about = {"system": system.name, "shots": task.shots, "seed": task.seed, "with_synthesis": made}
                rows.append(about | {"windows": len(samples), **found})
                if not made:
                    shown = [(image, ids, system.predictor.predict([image])[0]) for image, ids in frames[:SHOWN]]
                    pictures[f"predictions_{system.name}"] = predictions_preview(shown, dataset.labels, len(frames))
                progress(len(rows), len(arms) * len(chosen.systems))
    out.add_table(pd.DataFrame(rows))
    check = Check("only_the_shots", drawn.made_from_shots_only(arms), f"{len(drawn.shown)} shots of {key}")
    return Made(pictures, (check,))


class _Shots:
    """The K shots of each class of a task, their windows, and the windows synthesised from the novel shots."""

    def __init__(
        self,
        settings: Settings,
        store: DeclaredStore,
        dataset: Dataset,
        generators: Generators,
        task: FewShotTask,
        cities: list[str],
    ) -> None:
        """The shots of a task; `cities` are the train cities."""
        self._settings, self._store, self._dataset = settings, store, dataset
        self._chosen, self._generators = _chosen(settings), generators
        self._frames = store.read_many("frames", cities).set_index("frame_id", drop=False)
        self.drawn = {
            name: draw_instances(
                store.read_many("selected_instances", [f"{city}|{name}" for city in cities], lazily=True),
                name,
                task.shots,
                task.seed,
            )
            for name in settings.classes
        }
        self.shown = {row.instance_id for rows in self.drawn.values() for row in rows.itertuples()}
        self.real = shot_samples(
            self.drawn, self._chosen.novel, self._frame, settings.integration, settings.seed, dataset.labels
        )

    def synthetic(self) -> Iterator[Any]:
        """Windows of the repainted shots of novel classes."""
        yield from synthetic_samples(
            {name: self.drawn[name] for name in self._chosen.novel},
            self._chosen.novel,
            self._repainted,
            self._frame,
            self._settings.integration,
            self._settings.seed,
            self._dataset.labels,
        )

    def made_from_shots_only(self, arms: dict[bool, list[Any]]) -> bool:
        """Whether every window was made from shots, and every shot is in a frame of a train city."""
        sources = {source for samples in arms.values() for sample in samples for source in sample.sources}
        return sources <= self.shown and {s.rpartition(":")[0] for s in self.shown} <= set(self._frames.index)

    def _frame(self, frame_id: str) -> tuple[np.ndarray, np.ndarray]:
        row = self._frames.loc[frame_id]
        return self._dataset.image(row), self._dataset.ids(row)

    def _repainted(self, name: str, rows: pd.DataFrame) -> Iterable[Repainted]:
        generator, bank = str(self._chosen.generator), self._store.read("prompt_bank", name)
        return repainted_shots(
            with_words(rows, bank, self._store),
            bank,
            lambda frame_id: self._frame(frame_id)[0],
            self._generators.load(generator, self._settings.generators[generator]),
            generator,
            self._settings.generators[generator],
            self._settings.integration,
            seed=self._settings.seed,
            replicas=self._chosen.replicas,
        )
