"""The whole graph on a tiny city: what runs, what does not run again, and what a bad artifact stops."""

from __future__ import annotations

import shutil
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets import build_assets, build_graph
from assets.shared.events import Record
from assets.shared.partitions import shown_key
from instsynth_dagster.artifacts.manifest import MANIFEST
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.graph.staleness import plan
from instsynth_dagster.settings import Settings
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.instances import empty_instance

CITIES = {"ashford": "train", "birchley": "train", "valdale": "val"}
CLASSES = ("person", "car", "bus", "motorcycle")
"""Those that are drawn, and one of which there is nothing."""


def write_city(root: Path, city: str, split: str, frames: int = 2) -> None:
    rng = np.random.default_rng(sum(city.encode()))
    for number in range(frames):
        image = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
        ids = np.full((64, 128), 7, np.int32)
        ids[10:34, 12:40] = 26000
        ids[30:60, 60:76] = 24000
        ids[20:44, 90:120] = 32000
        ids[0:6, 100:128] = 24
        write_frame(root, split, f"{city}_000000_{number:06}", image, ids)


def settings_for(root: Path, **changes: Any) -> Settings:
    prompts = {name: {"templates": [f"a photo of a {name}"]} for name in CLASSES}
    raw: dict[str, Any] = {
        "device": "cpu",
        "artifacts": {"root": str(root / "artifacts"), "exports": root / "exports", "results": root / "results"},
        "dataset": {"root": root / "data", "train_cities": ["ashford", "birchley"], "val_cities": ["valdale"]},
        "classes": list(CLASSES),
        "selection": {"min_area": 50, "k": 3},
        "prompts": prompts,
        "integration": {"window_size": [128, 64]},
        "arms": ["real", "zoom_crop"],
    }
    return Settings.model_validate(raw | changes)


class Project:
    """A project on disk, and in Dagster's records, that can be refreshed under changed settings, as a user would."""

    def __init__(self, root: Path, drawn: bool = False) -> None:
        """A project in a folder, where its data are drawn already or are drawn now."""
        self.root = root
        opened = ExitStack()
        self.instance = opened.enter_context(empty_instance())
        weakref.finalize(self, opened.close).atexit = False
        for city, split in CITIES.items():
            if not drawn:
                write_city(root / "data", city, split)

    def refresh(self, **changes: Any) -> list[tuple[str, str]]:
        """Refresh and return the partitions that a plan made just before called certainly or possibly stale."""
        settings = settings_for(self.root, **changes)
        graph = build_graph(settings)
        resources = build_resources(settings)
        store = resources["store"]
        before = {key: _written(store, key) for key in self.partitions(graph)}
        planned = {(item.asset, item.partition) for item in plan(list(graph.values()), store.manifest)}
        refresh(graph, store, InThisProcess(build_assets(graph), resources, self.instance), lambda _: None)
        made = [key for key in self.partitions(graph) if _written(store, key) != before[key]]
        assert set(made) <= planned
        self.store, self.graph = store, graph
        return made

    @staticmethod
    def partitions(graph: dict) -> list[tuple[str, str]]:
        return [(asset.key, partition) for asset in graph.values() for partition in asset.partitions]


def _written(store: Store, key: tuple[str, str]) -> tuple[int, int] | None:
    """Which writing of a manifest lies there. Two may say the same: times in them are coarse."""
    manifest = store.directory(*key) / MANIFEST
    return (manifest.stat().st_ino, manifest.stat().st_mtime_ns) if manifest.exists() else None


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def first_refresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished project and a copy of it."""
    folder = tmp_path_factory.mktemp("refreshed")
    project = Project(folder / "project")
    assert set(project.refresh()) == set(Project.partitions(project.graph))
    shutil.copytree(folder / "project", folder / "copy")
    return folder


@pytest.fixture
def refreshed(first_refresh: Path) -> Project:
    """The finished project, whatever the test before has done to it."""
    folder = first_refresh
    shutil.rmtree(folder / "project")
    shutil.copytree(folder / "copy", folder / "project")
    return Project(folder / "project", drawn=True)


@pytest.mark.slow
def test_once_then_nothing_then_only_what_changed(refreshed):
    project = refreshed
    assert project.refresh() == []
    windows = project.store.read("zoom_crop/is_cityscapes", "ashford|motorcycle")
    assert len(windows) == 2
    assert (windows["outside_difference"] == 0).all()

    write_city(project.root / "data", "birchley", "train", frames=3)
    made = project.refresh()
    assert ("frames", "birchley") in made
    touched = {partition.split("|")[0] for asset, partition in made if "|" in partition}
    assert touched == {"birchley"}

    made = project.refresh(selection={"min_area": 50, "k": 1})
    assert {asset for asset, _ in made} == {
        "selected_instances",
        "zoom_crop/is_cityscapes",
        "zoom_crop/export",
        "training_sets",
    }

    prompts = {name: {"templates": [f"a photo of a {name}"]} for name in CLASSES}
    prompts["bus"] = {"templates": ["a photo of a big bus"]}
    assert project.refresh(selection={"min_area": 50, "k": 1}, prompts=prompts) == [("prompt_bank", "bus")]


@pytest.mark.slow
def test_copy_paste_windows_name_the_frame_they_are_cut_from(refreshed):
    project = refreshed
    project.refresh(arms=["real", "copy_paste"])
    windows = project.store.read("copy_paste/is_cityscapes", "ashford|car")
    frames = project.store.read("frames", "ashford").set_index("frame_id")
    assert len(windows) == 2
    assert (windows["outside_difference"] == 0).all()
    for row in windows.itertuples():
        assert row.source_frame != row.instance_id.split(":")[0]
        assert row.source_sha256 == frames.loc[row.source_frame, "image_sha256"]
        assert "car" in list(row.instance_classes)
    assert project.refresh(arms=["real", "copy_paste"]) == []


@pytest.mark.slow
def test_a_deleted_partition_that_comes_back_equal_stops_the_wave(refreshed):
    (refreshed.root / "artifacts/selected_instances/ashford/car/manifest.json").unlink()
    assert refreshed.refresh() == [("selected_instances", "ashford|car")]


@pytest.mark.slow
def test_a_deleted_export_is_written_again(refreshed):
    next((refreshed.root / "exports/zoom_crop").rglob("*.json")).unlink()
    assert refreshed.refresh() == [("zoom_crop/export", "all")]


@pytest.mark.slow
def test_a_val_image_in_a_train_city_stops_everything_below(project):
    source = project.root / "data/leftImg8bit/val/valdale/valdale_000000_000000_leftImg8bit.png"
    target = project.root / "data/leftImg8bit/train/ashford/ashford_000000_000001_leftImg8bit.png"
    target.write_bytes(source.read_bytes())
    with pytest.raises(dg.Failure, match="no_frame_in_two_splits") as caught:
        project.refresh()
    assert "valdale_000000_000000" in str(caught.value.description)
    store = build_resources(settings_for(project.root))["store"]
    assert store.manifest("splits") is None
    assert store.manifest("selected_instances", "ashford|car") is None


def test_a_corrupt_frame_is_named_and_leaves_no_artifact(project):
    victim = project.root / "data/leftImg8bit/train/birchley/birchley_000000_000001_leftImg8bit.png"
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(dg.Failure, match=victim.name):
        project.refresh()
    store = build_resources(settings_for(project.root))["store"]
    assert store.manifest("frames", "birchley") is None
    assert store.manifest("frames", "ashford") is not None


def test_definitions_load(project, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    from instsynth_dagster.definitions import build_definitions

    definitions = build_definitions(settings_for(project.root), lambda: settings_for(project.root))
    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert names >= {*["demo", "refresh", "synthesize", "export", "train", "evaluate", "pretrain_demo_models"]}


@pytest.mark.slow
def test_dagster_calls_everything_synced_until_an_input_changes(project, monkeypatch):
    """The UI compares data versions and input pointers of events; ours must say what the manifests say."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
    from dagster._core.loader import LoadingContextForTest

    resources = build_resources(settings_for(project.root))

    def statuses(instance, definitions, graph, asset):
        whole = dg.Definitions(definitions, resources=resources)
        resolver = CachingStaleStatusResolver(instance, whole.resolve_asset_graph(), LoadingContextForTest(instance))
        path = dg.AssetKey(asset.split("/"))
        return {
            (resolver.get_status(path, key), *(cause.reason for cause in resolver.get_stale_causes(path, key)))
            for key in map(shown_key, graph[asset].partitions)
        }

    def run(instance, **changes):
        settings = settings_for(project.root, **changes)
        graph = build_graph(settings)
        definitions = build_assets(graph)
        resources = build_resources(settings)
        refresh(graph, resources["store"], InThisProcess(definitions, resources, instance), lambda _: None)
        return definitions, graph

    with empty_instance() as instance:
        definitions, graph = run(instance)
        for asset in ("frames", "selected_instances", "zoom_crop/is_cityscapes", "training_sets"):
            assert statuses(instance, definitions, graph, asset) == {(StaleStatus.FRESH,)}
        asked: list[tuple] = []

        def unasked(*_: str) -> None:
            raise AssertionError("a manifest is read by itself")

        fetch = instance.fetch_materializations
        monkeypatch.setattr(
            instance, "fetch_materializations", lambda *of, **most: asked.append(of) or fetch(*of, **most)
        )
        store = resources["store"]
        assert Record(instance, store, graph["selected_instances"]).report_unknown(store.snapshot(), unasked) == []
        assert len(asked) == 1  # for all of its partitions
        settings = settings_for(project.root, selection={"min_area": 50, "k": 1})
        changed = {key: asset for key, asset in build_graph(settings).items() if "is_cityscapes" not in key}
        early = {key: changed[key] for key in list(changed)[: list(changed).index("selected_instances") + 1]}
        workers = InThisProcess(build_assets(build_graph(settings)), resources, instance)
        refresh(early, resources["store"], workers, lambda _: None)
        found = statuses(instance, definitions, graph, "zoom_crop/is_cityscapes")
        assert StaleStatus.STALE in {status for status, *_ in found}
