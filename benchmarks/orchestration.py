"""What orchestration costs: a refresh that finds nothing, and what Dagster adds to each partition that is made.

The graph has the paper's shape (3 generators x 18 cities x 8 classes) on a tree of tiny frames, and every partition of
it exists, written by the store alone. The second part makes the partitions of one asset through Dagster,
many in one run, and then with a run each.

python benchmarks/orchestration.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from assets import build_assets, build_graph
from assets.shared.partitions import asset_key
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, write_frame
from instsynth_dagster.graph.staleness import Asset, expected
from instsynth_dagster.settings import Settings
from jobs.planning import planned_assets
from jobs.refresh import refresh
from jobs.workers.runs import QUIET, InThisProcess
from resources import build_resources

TRAIN, VAL = [f"train{n:02d}" for n in range(18)], [f"val{n}" for n in range(3)]
GENERATORS = ("diffinpainting", "gligen", "blendeddiff")


def settings_for(root: Path, frames: int, train: list[str]) -> Settings:
    for city in (*train, *VAL):
        for number in range(frames):
            image, ids = np.zeros((32, 64, 3), np.uint8), np.full((32, 64), 7, np.int32)
            ids[4:20, 4:20] = 26000
            write_frame(root / "data", "train" if city in train else "val", f"{city}_{number:06d}_000019", image, ids)
    generator = {"kind": "diffinpainting", "model": "none"}
    return Settings.model_validate(
        {
            "artifacts": {"root": str(root / "artifacts"), "exports": root / "exports"},
            "dataset": {"root": root / "data", "train_cities": train, "val_cities": VAL},
            "prompts": {name: {"templates": [f"a photo of a {name}"]} for name in CITYSCAPES.classes},
            "generators": dict.fromkeys(GENERATORS, generator),
            "judge": {"clip": "none"},
            "arms": ["real", "zoom_crop", *GENERATORS],
            "training_seeds": [0, 1, 2],
            "segmenters": {"mask2former": {"kind": "mask2former", "model": "none"}},
        }
    )


def pretend(graph: dict[str, Asset], store: Store) -> int:
    """Give every partition a small table under the fingerprint that the graph expects."""
    count = 0
    for asset in graph.values():
        for partition in asset.partitions:
            now = expected(asset, partition, store.manifest)
            assert now
            with store.write(asset.key, partition, now.fingerprint, now.components) as out:
                out.add_table(pd.DataFrame({"asset": [asset.key], "partition": [partition]}))
            count += 1
    return count


@contextmanager
def timed(title: str, per: int = 1) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds = (time.perf_counter() - started) / per
    print(f"{title}: {seconds:.3f} s")


def materialize(asset: Asset, tags: dict[str, str], assets: list[Any], resources: Any, instance: Any) -> None:
    dg.materialize(
        assets,
        selection=dg.AssetSelection.assets(asset_key(asset.key)),
        resources=resources,
        instance=instance,
        tags=tags,
        run_config=QUIET,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=165, help="per city; 165 are Cityscapes' 3,475")
    parser.add_argument("--cities", type=int, default=18, help="to train on")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        settings = settings_for(Path(folder) / "project", arguments.frames, TRAIN[: arguments.cities])
        graph, resources = build_graph(settings), build_resources(settings)
        store = resources["store"]
        with timed("assets built"):
            assets = build_assets(graph)
        count = pretend(graph, store)
        print(f"{count} partitions of {len(graph)} assets, {arguments.frames * (arguments.cities + len(VAL))} frames")
        with timed("refresh that finds nothing stale"):
            workers = InThisProcess(assets, resources, instance)
            assert refresh(graph, store, workers, lambda _: None).partitions == 0
        with timed("plan"):
            assert planned_assets(graph, store) == []
        bank = graph["prompt_bank"]
        many = {
            "dagster/asset_partition_range_start": CITYSCAPES.classes[0],
            "dagster/asset_partition_range_end": CITYSCAPES.classes[-1],
        }
        for title, runs in (
            ("one run for all", [many]),
            ("a run each", [{"dagster/partition": c} for c in CITYSCAPES.classes]),
        ):
            for name in CITYSCAPES.classes:
                (store.directory("prompt_bank", name) / "manifest.json").unlink()
            with timed(f"Dagster's share of a partition, {title}", per=len(CITYSCAPES.classes)):
                for tags in runs:
                    materialize(bank, tags, assets, resources, instance)


if __name__ == "__main__":
    main()
