"""Few-shot instance segmentation, with and without repaintings of the shots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.pictures import curve_picture, predictions_preview
from assets.shared.stored import Check, Made, stored_asset
from assets.training import train_into
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.evaluation.tables.few_label_views import fsis_view
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.few_shot.instances import Samples, draw_instances, shot_samples, summary, synthetic_samples
from instsynth_dagster.few_shot.synthesis import Repainted, repainted_shots
from instsynth_dagster.few_shot.systems import scores, tuned_systems
from instsynth_dagster.few_shot.unannotated import Unannotated
from instsynth_dagster.graph import FewShotTask
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.training.samples import ArmDataset, frame_samples
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device
from resources.generators import Generators
from resources.progress import progress_bar

CHECKS = {"only_the_shots": "Every synthetic window was made from one of the K shots, and no shot is of a val city."}
SHOWN = 4


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if settings.few_shot_instances is None:
        return []
    return [_base(settings, graph), _scores(settings, graph), _table(graph)]


def _base(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    chosen, cities = settings.few_shot_instances, settings.dataset.train_cities
    assert chosen is not None
    known = tuple(name for name in settings.classes if name not in chosen.novel)

    @stored_asset(graph["fsis_base"], graph, group="few_shot", kinds={"pytorch"})
    def fsis_base(out: PartitionWriter, name: str, store: Store, dataset: Dataset, device: Device) -> Made:
        """A segmenter trained on the base classes of all train frames; novel objects are neither seen nor counted as
        background."""
        frames, instances = store.read_many("frames", cities), store.read_many("instances", cities)
        real = ArmDataset(frame_samples(frames, instances, known), dataset.root, store, None)
        recipe = chosen.systems[name].base
        fit = get_segmenter(recipe.kind).fit
        training = partial(fit, Unannotated(real, chosen.novel), recipe, classes=known, seed=settings.seed)
        result = train_into(out, f"base training of {name}", recipe, device, training)
        return Made({"loss_curve": curve_picture(result.curve)})

    return fsis_base


def _scores(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    chosen = settings.few_shot_instances
    assert chosen is not None

    @stored_asset(graph["fsis_scores"], graph, group="few_shot", kinds={"pytorch", "cityscapes"}, checks=CHECKS)
    def fsis_scores(
        out: PartitionWriter, key: str, store: Store, dataset: Dataset, generators: Generators, device: Device
    ) -> Made:
        """AP of base, novel and all classes after fine-tuning every system on K instances of each class, and on these
        with repaintings of the novel ones; of MaskDiff also the mask IoU given true boxes."""
        task = FewShotTask.parse(key)
        drawn = _Shots(settings, store, dataset, generators, task)
        frames = [
            (dataset.image(row), dataset.ids(row))
            for row in store.read_many("frames", settings.dataset.val_cities).itertuples()
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
                    Samples(samples, settings.classes),
                    settings.classes,
                    shots=task.shots,
                    seed=task.seed,
                    scratch=out.scratch() / str(made),
                    device=device.name,
                )
                for system in tuned:
                    found = scores(system.predictor, frames, settings.classes, chosen.novel)
                    about = {"system": system.name, "shots": task.shots, "seed": task.seed, "with_synthesis": made}
                    rows.append(about | {"windows": len(samples), **found})
                    if not made:
                        shown = [(image, ids, system.predictor.predict([image])[0]) for image, ids in frames[:SHOWN]]
                        pictures[f"predictions_{system.name}"] = predictions_preview(shown)
                    progress(len(rows), len(arms) * len(chosen.systems))
        out.add_table(pd.DataFrame(rows))
        check = Check("only_the_shots", drawn.kept_to_themselves(arms), f"{len(drawn.shown)} shots of {key}")
        return Made(pictures, (check,))

    return fsis_scores


class _Shots:
    """The K shots of each class of a task, their windows, and windows of what is synthesised from the novel ones."""

    def __init__(
        self, settings: Settings, store: Store, dataset: Dataset, generators: Generators, task: FewShotTask
    ) -> None:
        assert settings.few_shot_instances is not None
        self._settings, self._store, self._dataset = settings, store, dataset
        self._chosen, self._generators, self._task = settings.few_shot_instances, generators, task
        cities = settings.dataset.train_cities
        self._frames = store.read_many("frames", cities).set_index("frame_id", drop=False)
        self.drawn = {
            name: draw_instances(
                pd.concat(
                    [store.read_lightly("selected_instances", f"{city}|{name}") for city in cities], ignore_index=True
                ),
                name,
                task.shots,
                task.seed,
            )
            for name in settings.classes
        }
        self.shown = {row.instance_id for rows in self.drawn.values() for row in rows.itertuples()}
        self.real = shot_samples(self.drawn, self._chosen.novel, self._frame, settings.integration, settings.seed)

    def synthetic(self) -> Iterator[Any]:
        yield from synthetic_samples(
            {name: self.drawn[name] for name in self._chosen.novel},
            self._chosen.novel,
            self._repainted,
            self._frame,
            self._settings.integration,
            self._settings.seed,
        )

    def kept_to_themselves(self, arms: dict[bool, list[Any]]) -> bool:
        """Whether every window was made from shots, and every shot lies in a frame of a train city."""
        sources = {source for samples in arms.values() for sample in samples for source in sample.sources}
        return sources <= self.shown and {s.rpartition(":")[0] for s in self.shown} <= set(self._frames.index)

    def _frame(self, frame_id: str) -> tuple[np.ndarray, np.ndarray]:
        row = self._frames.loc[frame_id]
        return self._dataset.image(row), self._dataset.ids(row)

    def _repainted(self, name: str, rows: pd.DataFrame) -> Iterable[Repainted]:
        generator = str(self._chosen.generator)
        return repainted_shots(
            rows,
            self._store.read("prompt_bank", name),
            lambda frame_id: self._frame(frame_id)[0],
            self._generators[generator],
            generator,
            self._settings.generators[generator],
            self._settings.integration,
            seed=self._settings.seed,
            replicas=self._chosen.replicas,
        )


def _table(graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["fsis_table"], graph, group="few_shot", kinds={"pandas"})
    def fsis_table(out: PartitionWriter, _: str, store: Store) -> Made:
        """Mean and deviation over seeds of each system and K, and what synthesis changes (95 % interval over seeds)."""
        table = summary(pd.concat([store.read("fsis_scores", task) for task in graph["fsis_scores"].partitions]))
        out.add_table(table)
        return Made({"fsis": dg.MetadataValue.md(to_markdown(fsis_view(table)))})

    return fsis_table
