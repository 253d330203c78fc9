"""The asset graph as data: who reads which partitions and which settings.

Everything that asks "what is stale?" (the refresh, the plan, Dagster's dependencies) reads this one description.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from instsynth_dagster.few_shot.folds import FOLDS, cityscapes_fold
from instsynth_dagster.file_digests import FileDigests
from instsynth_dagster.graph_checkpoints import CheckpointContents
from instsynth_dagster.graph_few_shot import fsis_assets, semantics_assets
from instsynth_dagster.listing import city_files
from instsynth_dagster.partition_refs import SPEED_ONLY, city_classes, each
from instsynth_dagster.settings import REFINED, JudgeSettings, Settings
from instsynth_dagster.staleness import Asset, PartitionRef
from instsynth_dagster.store import UNPARTITIONED

REAL, ZOOM_CROP, COPY_PASTE = "real", "zoom_crop", "copy_paste"
FROM_SEMANTICS = "from_semantics"
"""The arm of real frames whose instances were told apart by SISeg."""
WITHOUT_GENERATOR = (ZOOM_CROP, COPY_PASTE)
"""Arms whose windows come from real pixels alone."""
FILE_DIGESTS = ".cache/files.sqlite"


def build_graph(settings: Settings) -> dict[str, Asset]:
    """All assets of a params file by key, in topological order."""
    contents = CheckpointContents(settings.artifacts.local)
    assets = [*_data_assets(settings), *_phase_one(settings, contents)]
    for name in settings.generators:
        assets.append(_inpainted_crops(settings, name, contents))
        if settings.judge:
            assets.append(_crop_quality(settings, name, contents))
    if settings.refinement:
        assets.append(_prototypes(settings, contents))
    for arm in window_arms(settings):
        assets += [_is_cityscapes(settings, arm), _export(settings, arm)]
    if settings.refinement:
        assets += [_refined(settings, name, contents) for name in settings.generators]
    if settings.judge and settings.generators:
        assets.append(_image_quality(settings, contents))
    if settings.few_shot:
        assets += _few_shot_assets(settings, contents)
    assets += fsis_assets(settings, contents)
    assets += semantics_assets(settings, contents)
    assets += _learning_assets(settings, contents)
    return {asset.key: asset for asset in assets}


def window_arms(settings: Settings) -> list[str]:
    """Sources of synthetic windows: every generator, and `zoom_crop` and `copy_paste` where an arm asks for them."""
    return [*settings.generators, *(arm for arm in WITHOUT_GENERATOR if arm in settings.arms)]


def windows_asset(arm: str) -> str | None:
    """The asset that holds an arm's synthetic windows; None for arms of real frames."""
    return None if arm in (REAL, FROM_SEMANTICS) else f"{arm.removesuffix(REFINED)}/is_cityscapes"


def labels_asset(arm: str) -> str | None:
    """The asset that holds other id maps for an arm's samples, row by row; None where their own are used."""
    if arm == FROM_SEMANTICS:
        return "instances_from_semantics"
    return f"{arm.removesuffix(REFINED)}/refined_pseudo_labels" if arm.endswith(REFINED) else None


def window_replicas(settings: Settings) -> int:
    """Windows per instance of the arms without a generator: as many as the generator that makes most."""
    return max((generator.replicas for generator in settings.generators.values()), default=1)


@dataclass(frozen=True)
class TrainingSet:
    """An arm on a share of the labelled frames; `name` is its partition key: "real", or "real@10" for 10 %."""

    arm: str
    percent: int = 100

    @property
    def name(self) -> str:
        return self.arm if self.percent == 100 else f"{self.arm}@{self.percent}"

    @classmethod
    def parse(cls, name: str) -> TrainingSet:
        arm, _, percent = name.partition("@")
        return cls(arm, int(percent or 100))


@dataclass(frozen=True)
class TrainingRun:
    """One training on a set; `name` is its key in the dimension `run`: "real-s0", "real@10-s0"."""

    data: TrainingSet
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data.name}-s{self.seed}"

    @classmethod
    def parse(cls, name: str) -> TrainingRun:
        data, _, seed = name.rpartition("-s")
        return cls(TrainingSet.parse(data), int(seed))


def training_sets(settings: Settings) -> list[TrainingSet]:
    return [TrainingSet(arm, percent) for percent in settings.label_percents for arm in settings.arms]


def city_class_dimensions(settings: Settings) -> dict[str, tuple[str, ...]]:
    return {"city": settings.dataset.train_cities, "class": settings.classes}


def run_dimensions(settings: Settings) -> dict[str, tuple[str, ...]]:
    runs = tuple(TrainingRun(data, seed).name for data in training_sets(settings) for seed in settings.training_seeds)
    return {"run": runs, "segmenter": tuple(settings.segmenters)}


def _data_assets(settings: Settings) -> Iterator[Asset]:
    dataset = settings.dataset
    cities = {"city": (*dataset.train_cities, *dataset.val_cities)}
    digests = FileDigests(settings.artifacts.local / FILE_DIGESTS)
    demo = dataset.demo_city
    if demo:
        yield Asset(
            key="demo_city",
            code_version="1",
            dimensions=cities,
            settings=lambda city: {
                "demo_city": demo.model_dump(),
                "root": str(dataset.root),
                "split": split_of(settings, city),
            },
            upstream=lambda city: [],
        )
    yield Asset(
        key="frames",
        code_version="2",
        dimensions=cities,
        settings=lambda city: str(dataset.root),
        upstream=lambda city: [("demo_city", city)] if demo else [],
        files=lambda city: digests.signature(city_files(dataset.root, city), dataset.root),
    )
    yield Asset(
        key="splits",
        code_version="2",
        dimensions={},
        settings=lambda _: [dataset.train_cities, dataset.val_cities],
        upstream=lambda _: each("frames", list(cities["city"])),
    )
    yield Asset(
        key="instances",
        code_version="1",
        dimensions=cities,
        settings=lambda city: str(dataset.root),
        upstream=lambda city: [("frames", city)],
    )


def data_signature(settings: Settings) -> str:
    """Of all files of the data set that the graph reads."""
    dataset = settings.dataset
    files = [path for city in (*dataset.train_cities, *dataset.val_cities) for path in city_files(dataset.root, city)]
    return FileDigests(settings.artifacts.local / FILE_DIGESTS).signature(files, dataset.root)


def split_of(settings: Settings, city: str) -> str:
    return "train" if city in settings.dataset.train_cities else "val"


def _phase_one(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    bank = settings.prompt_bank
    yield Asset(
        key="selected_instances",
        code_version="1",
        dimensions=city_class_dimensions(settings),
        settings=lambda _: [settings.selection.model_dump(), settings.classes, str(settings.dataset.root)],
        upstream=lambda key: [
            ("splits", UNPARTITIONED),
            ("frames", key.split("|")[0]),
            ("instances", key.split("|")[0]),
        ],
    )
    yield Asset(
        key="prompt_bank",
        code_version="1",
        dimensions={"class": settings.classes},
        settings=lambda name: [settings.prompts[name].model_dump(), *_bank_settings(settings)],
        upstream=lambda name: [],
        files=contents.signed(bank, settings.generators[bank.encoder]) if bank else None,
    )


def _bank_settings(settings: Settings) -> list[Any]:
    """What a diverse bank reads beside the templates: its recipe, the seed, and the encoder's checkpoint."""
    bank = settings.prompt_bank
    if bank is None:
        return []
    encoder = settings.generators[bank.encoder]
    return [bank.model_dump(), settings.seed, encoder.model]


def _inpainted_crops(settings: Settings, name: str, contents: CheckpointContents) -> Asset:
    return Asset(
        key=f"{name}/inpainted_crops",
        code_version="1",
        dimensions=city_class_dimensions(settings),
        settings=lambda _: [
            settings.generators[name].model_dump(exclude=SPEED_ONLY),
            settings.seed,
            drawn_replicas(settings, name),
        ],
        upstream=lambda key: [("selected_instances", key), ("prompt_bank", key.split("|")[1])],
        files=contents.signed(settings.generators[name]),
    )


def drawn_replicas(settings: Settings, name: str) -> int:
    """Repaintings that a generator makes of each instance, spares for rejected ones included."""
    return settings.generators[name].replicas + settings.gates.spares


def _crop_quality(settings: Settings, name: str, contents: CheckpointContents) -> Asset:
    judge = settings.judge
    assert judge is not None
    return Asset(
        key=f"{name}/crop_quality",
        code_version="2",
        dimensions=city_class_dimensions(settings),
        settings=lambda _: judge.model_dump(include={"clip", "cut_out"}),
        upstream=lambda key: [("selected_instances", key), (f"{name}/inpainted_crops", key)],
        files=contents.signed(JudgeSettings(clip=judge.clip)),
    )


def _image_quality(settings: Settings, contents: CheckpointContents) -> Asset:
    judge = settings.judge
    assert judge is not None
    crops = [f"{name}/inpainted_crops" for name in settings.generators]
    return Asset(
        key="image_quality",
        code_version="2",
        dimensions={},
        settings=lambda _: judge.model_dump(mode="json"),
        files=contents.signed(judge),
        upstream=lambda _: [
            ref for asset in ("selected_instances", *crops) for ref in each(asset, city_classes(settings))
        ],
    )


def _is_cityscapes(settings: Settings, arm: str) -> Asset:
    def upstream(key: str) -> list[PartitionRef]:
        crops = [] if arm in WITHOUT_GENERATOR else [(f"{arm}/inpainted_crops", key)]
        if crops and settings.judge:
            crops.append((f"{arm}/crop_quality", key))
        return [("frames", key.split("|")[0]), ("selected_instances", key), *crops]

    gates = settings.gates.model_dump(exclude={"spares"})
    return Asset(
        key=f"{arm}/is_cityscapes",
        code_version="2",
        dimensions=city_class_dimensions(settings),
        settings=lambda _: [
            settings.integration.model_dump(),
            settings.seed,
            str(settings.dataset.root),
            window_replicas(settings) if arm in WITHOUT_GENERATOR else [settings.generators[arm].replicas, gates],
        ],
        upstream=upstream,
    )


def _prototypes(settings: Settings, contents: CheckpointContents) -> Asset:
    refinement = settings.refinement
    assert refinement is not None
    cities = list(settings.dataset.train_cities)
    return Asset(
        key="prototypes",
        code_version="1",
        dimensions={},
        settings=lambda _: [
            refinement.model_dump(include={"features", "support_frames"}),
            settings.classes,
            str(settings.dataset.root),
        ],
        upstream=lambda _: [("splits", UNPARTITIONED), *each("frames", cities)],
        files=contents.signed(refinement.features),
    )


def _refined(settings: Settings, name: str, contents: CheckpointContents) -> Asset:
    refinement = settings.refinement
    assert refinement is not None
    return Asset(
        key=f"{name}/refined_pseudo_labels",
        code_version="1",
        dimensions=city_class_dimensions(settings),
        settings=lambda _: refinement.model_dump(mode="json", exclude={"support_frames"}),
        upstream=lambda key: [(f"{name}/is_cityscapes", key), ("prototypes", UNPARTITIONED)],
        files=contents.signed(refinement),
    )


def _export(settings: Settings, arm: str) -> Asset:
    return Asset(
        key=f"{arm}/export",
        code_version="1",
        dimensions={},
        settings=lambda _: str(settings.artifacts.exports),
        upstream=lambda _: each(f"{arm}/is_cityscapes", city_classes(settings)),
    )


def _few_shot_assets(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    few_shot, dataset = settings.few_shot, settings.dataset
    assert few_shot is not None
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


def _learning_assets(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    dataset = settings.dataset

    def training_inputs(name: str) -> list[PartitionRef]:
        arm = TrainingSet.parse(name).arm
        cities = list(dataset.train_cities)
        if arm == FROM_SEMANTICS and settings.semantics:
            grouped = list(settings.semantics.cities)
            rest = [city for city in cities if city not in grouped]
            return [
                ("splits", UNPARTITIONED),
                *each("frames", rest),
                *each("instances", rest),
                *each("instances_from_semantics", grouped),
            ]
        sources = [asset for asset in (windows_asset(arm), labels_asset(arm)) if asset]
        windows = [ref for asset in sources for ref in each(asset, city_classes(settings))]
        return [("splits", UNPARTITIONED), *each("frames", cities), *each("instances", cities), *windows]

    def segmenter_settings(key: str) -> Any:
        return [settings.segmenters[key.split("|")[1]].model_dump(mode="json"), settings.classes]

    def validation_inputs() -> list[PartitionRef]:
        cities = list(dataset.val_cities)
        return [*each("frames", cities), *each("instances", cities)]

    yield Asset(
        key="training_sets",
        code_version="1",
        dimensions={"arm": tuple(data.name for data in training_sets(settings))},
        settings=lambda _: settings.classes,
        upstream=training_inputs,
    )
    if not (settings.segmenters and dataset.val_cities):
        return
    runs = run_dimensions(settings)
    yield Asset(
        key="trained_segmenters",
        code_version="2",
        dimensions=runs,
        settings=segmenter_settings,
        files=lambda key: contents.of(settings.segmenters[key.split("|")[1]]),
        upstream=lambda key: [("training_sets", TrainingRun.parse(key.split("|")[0]).data.name)],
    )
    yield Asset(
        key="segmentation_scores",
        code_version="1",
        dimensions=runs,
        settings=lambda key: settings.classes,
        upstream=lambda key: [("trained_segmenters", key), *validation_inputs()],
    )
    all_runs = [f"{run}|{segmenter}" for run in runs["run"] for segmenter in runs["segmenter"]]
    tables: list[PartitionRef] = [
        *each("training_sets", [data.name for data in training_sets(settings)]),
        *each("segmentation_scores", all_runs),
        *validation_inputs(),
    ]
    yield Asset(
        key="evaluation_tables",
        code_version="1",
        dimensions={},
        settings=lambda _: [settings.classes, settings.arms],
        upstream=lambda _: tables,
    )
    yield Asset(
        key="segmenter_costs",
        code_version="1",
        dimensions={},
        settings=lambda _: [],
        upstream=lambda _: [
            *each("trained_segmenters", [f"{runs['run'][0]}|{name}" for name in runs["segmenter"]]),
            *each("segmentation_scores", all_runs),
            *each("frames", dataset.val_cities),
        ],
    )
    examples = [
        (f"{name}/{kind}", key)
        for name in settings.generators
        for kind in ("inpainted_crops", "is_cityscapes", *(("crop_quality",) if settings.judge else ()))
        for key in city_classes(settings)
    ]
    yield Asset(
        key="report",
        code_version="2",
        dimensions={},
        settings=lambda _: settings.gates.model_dump(),
        upstream=lambda _: [
            ("evaluation_tables", UNPARTITIONED),
            *each("trained_segmenters", all_runs),
            *each("segmentation_scores", all_runs),
            ("segmenter_costs", UNPARTITIONED),
            *each("gfss_table", [UNPARTITIONED] if settings.few_shot else []),
            *each("fsis_table", [UNPARTITIONED] if settings.few_shot_instances else []),
            *each("grouping_scores", [UNPARTITIONED] if settings.semantics else []),
            *([("image_quality", UNPARTITIONED)] if settings.judge and settings.generators else []),
            *examples,
        ],
    )
