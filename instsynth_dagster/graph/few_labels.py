"""Learning from few labels: GFSS, FSIS, and instances from semantic maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from instsynth_dagster.artifacts.file_digests import FileDigests
from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.data.versions import SEMANTIC_SUFFIXES, city_files
from instsynth_dagster.few_shot.folds import FOLDS, cityscapes_fold
from instsynth_dagster.graph.checkpoints import CheckpointContents
from instsynth_dagster.graph.refs import SPEED_ONLY, annotated, city_classes, each
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import Settings

_FILE_DIGESTS = ".cache/semantic_files.sqlite"


@dataclass(frozen=True)
class FewShotTask:
    """K shots drawn with a seed; `name` is its partition key: "k5-s1"."""

    shots: int
    seed: int

    @property
    def name(self) -> str:
        return f"k{self.shots}-s{self.seed}"

    @classmethod
    def parse(cls, name: str) -> FewShotTask:
        shots, _, seed = name.removeprefix("k").partition("-s")
        return cls(int(shots), int(seed))


def gfss_assets(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    """Scores of each fold, and the table."""
    few_shot, dataset = settings.few_shot, settings.dataset
    if few_shot is None:
        return
    cities = [*dataset.train_cities, *dataset.val_cities]
    folds = tuple(str(fold) for fold in range(FOLDS))
    painter = settings.generators[few_shot.generator] if few_shot.generator else None
    yield Asset(
        key="gfss_scores",
        code_version="1",
        dimensions={"fold": folds},
        files=contents.signed(few_shot, painter),
        settings=lambda _: [
            few_shot.model_dump(),
            painter.model_dump(exclude=SPEED_ONLY) if painter else None,
            settings.integration.model_dump(include={"feather", "color_match"}),
            settings.seed,
            settings.classes,
            str(dataset.root),
        ],
        upstream=lambda fold: [
            ("splits", UNPARTITIONED),
            *each("frames", cities),
            *each("selected_instances", city_classes(settings)),
            *each("prompt_bank", list(cityscapes_fold(int(fold), settings.classes))),
        ],
    )
    yield Asset(
        key="gfss_table",
        code_version="1",
        dimensions={},
        settings=lambda _: few_shot.shots,
        upstream=lambda _: each("gfss_scores", list(folds)),
    )


def fsis_assets(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    """Base trainings, fine-tuning for each K and seed, and the table."""
    chosen, dataset = settings.few_shot_instances, settings.dataset
    if chosen is None:
        return
    painter = settings.generators[chosen.generator] if chosen.generator else None
    tasks = tuple(FewShotTask(shots, seed).name for shots in chosen.shots for seed in chosen.seeds)
    yield Asset(
        key="fsis_base",
        code_version="3",
        dimensions={"system": tuple(chosen.systems)},
        files=lambda name: contents.of(chosen.systems[name].base),
        settings=lambda name: [
            chosen.systems[name].base.model_dump(mode="json", exclude_unset=True),
            chosen.novel,
            settings.classes,
            settings.seed,
            str(dataset.root),
        ],
        upstream=lambda _: annotated(dataset.train_cities),
    )
    yield Asset(
        key="fsis_scores",
        code_version="2",
        dimensions={"task": tasks},
        files=contents.signed(chosen, painter),
        settings=lambda _: [
            chosen.model_dump(mode="json", exclude={"shots", "seeds"}, exclude_unset=True),
            painter.model_dump(exclude=SPEED_ONLY) if painter else None,
            settings.integration.model_dump(),
            settings.seed,
            settings.classes,
            str(dataset.root),
        ],
        upstream=lambda _: [
            ("splits", UNPARTITIONED),
            *each("fsis_base", list(chosen.systems)),
            *each("frames", [*dataset.train_cities, *dataset.val_cities]),
            *each("selected_instances", city_classes(settings)),
            *each("prompt_bank", chosen.novel),
        ],
    )
    yield Asset(
        key="fsis_table",
        code_version="1",
        dimensions={},
        settings=lambda _: [chosen.shots, chosen.seeds],
        upstream=lambda _: each("fsis_scores", tasks),
    )


def semantics_assets(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    """SISeg, what it makes of semantic maps, and how well."""
    chosen, dataset = settings.semantics, settings.dataset
    if chosen is None:
        return
    digests = FileDigests(settings.artifacts.local / _FILE_DIGESTS)
    yield Asset(
        key="siseg",
        code_version="1",
        dimensions={},
        files=contents.signed(chosen.segmenter),
        settings=lambda _: [
            chosen.segmenter.model_dump(mode="json", exclude_unset=True),
            chosen.seed,
            settings.classes,
            str(dataset.root),
        ],
        upstream=lambda _: annotated(dataset.train_cities),
    )
    yield Asset(
        key="instances_from_semantics",
        code_version="1",
        dimensions={"city": chosen.cities},
        settings=lambda _: [chosen.source, str(dataset.root)],
        upstream=lambda _: [("siseg", UNPARTITIONED), *each("frames", dataset.val_cities)],
        files=lambda city: digests.signature(city_files(dataset.root, city, SEMANTIC_SUFFIXES), dataset.root),
    )
    if dataset.val_cities:
        yield Asset(
            key="grouping_scores",
            code_version="1",
            dimensions={},
            settings=lambda _: settings.classes,
            upstream=lambda _: [("siseg", UNPARTITIONED), *each("frames", dataset.val_cities)],
        )
