"""Phases 1 to 3: selection, prompts, crops and their quality, windows, refined labels, exports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.graph.arms import WITHOUT_GENERATOR, window_arms, window_replicas
from instsynth_dagster.graph.checkpoints import CheckpointContents
from instsynth_dagster.graph.refs import SPEED_ONLY, city_class_dimensions, city_classes, each
from instsynth_dagster.graph.staleness import Asset, PartitionRef
from instsynth_dagster.settings import JudgeSettings, Settings


def synthesis_assets(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    """Everything between the data set and training, for each generator and each arm without one."""
    yield from _phase_one(settings, contents)
    for name in settings.generators:
        yield _inpainted_crops(settings, name, contents)
        if settings.judge:
            yield _crop_quality(settings, name, contents)
    if settings.refinement:
        yield _prototypes(settings, contents)
    for arm in window_arms(settings):
        yield _is_cityscapes(settings, arm)
        yield _export(settings, arm)
    if settings.refinement:
        yield from (_refined(settings, name, contents) for name in settings.generators)
    if settings.judge and settings.generators:
        yield _image_quality(settings, contents)


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
        code_version="3",
        dimensions={},
        settings=lambda _: str(settings.artifacts.exports),
        upstream=lambda _: each(f"{arm}/is_cityscapes", city_classes(settings)),
    )
