"""Tens of thousands of crops through the graph: time, peak memory, files, and what a look at the finished store takes.

Tiny images and a tiny pipeline with random weights, but the real path: selection, repainting, judging, windows, export,
training sets, Table IV. Each size runs in a process of its own; growth is drawn into benchmarks/load.png.

    python benchmarks/load.py --crops 5000 20000 50000
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).with_suffix(".png")
CITIES = ("ashford", "birchley", "cotham")
CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
REPLICAS = 10


def settings(folder: Path, cities: int, frames: int) -> dict[str, Any]:
    from tests.tiny_pipelines import save_tiny_clip, save_tiny_inpainting

    return {
        "device": "cpu",
        "artifacts": {"root": str(folder / "artifacts"), "exports": str(folder / "exports")},
        "dataset": {
            "root": str(folder / "data"),
            "train_cities": CITIES[:cities],
            "val_cities": ["dunmere"],
            "demo_city": {"width": 128, "height": 64, "frames_per_city": frames},
        },
        "selection": {"policy": "balanced", "k": 5, "min_area": 12, "quota": 100_000},
        "prompts": {name: {"templates": [f"a photo of a {name}"]} for name in CLASSES},
        "generators": {
            "diffinpainting": {
                "kind": "diffinpainting",
                "model": str(save_tiny_inpainting(folder / "tiny")),
                "size": 16,
                "steps": 1,
                "guidance": 1.0,
                "batch_size": 64,
                "replicas": REPLICAS,
            }
        },
        "judge": {"clip": str(save_tiny_clip(folder / "clip")), "fid_features": "clip"},
        "integration": {"window_size": [128, 64]},
        "arms": ["real", "diffinpainting"],
    }


def run(folder: Path, crops: int) -> dict[str, Any]:
    """Refresh a new store twice; everything in this process."""
    import dagster as dg

    from assets import build_assets, build_graph
    from instsynth_dagster.settings import Settings
    from jobs.refresh import refresh
    from jobs.workers.runs import InThisProcess
    from resources import build_resources

    total = -(-crops // (REPLICAS * 4))  # about four instances of a frame are large enough
    cities = min(total, len(CITIES))
    given = Settings.model_validate(settings(folder, cities, -(-total // cities)))
    graph, resources = build_graph(given), build_resources(given)
    definitions, store = build_assets(graph), resources["store"]
    timed, memory = {}, {}

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        if ": done in " in line:
            name, seconds = line.split("] ")[1].removesuffix(" s").split(": done in ")
            timed[name], memory[name] = float(seconds), _peak()

    before = _peak()
    with dg.DagsterInstance.local_temp(str(_made(folder / "home"))) as instance:
        workers = InThisProcess(definitions, resources, instance)
        started, worked = time.monotonic(), time.process_time()
        refresh(graph, store, workers, log)
        wall, cpu, peak = time.monotonic() - started, time.process_time() - worked, _peak()
        started = time.monotonic()
        done = refresh(graph, store, workers, log)
        idle = time.monotonic() - started
    assert done.partitions == 0
    root = folder / "artifacts"
    manifests = list(root.rglob("manifest.json"))
    started = time.monotonic()
    snapshot = store.snapshot()
    found = [snapshot(key, part) for key, asset in graph.items() for part in asset.partitions]
    reading = time.monotonic() - started
    return {
        "crops": sum(m.rows for m in found if m and m.asset == "diffinpainting/inpainted_crops"),
        "asked": crops,
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mb": round(peak / 2**20),
        "before_mb": round(before / 2**20),
        "files": sum(path.is_file() for path in root.rglob("*")),
        "store_mb": round(sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 2**20, 1),
        "manifests": len(manifests),
        "manifest_seconds": round(reading, 3),
        "idle_refresh_seconds": round(idle, 2),
        "seconds_of": timed,
        "peak_mb_after": {name: round(value / 2**20) for name, value in memory.items()},
    }


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "cpu_seconds": "CPU seconds, everything made",
        "peak_mb": "peak memory, MB",
        "files": "files in the store",
        "idle_refresh_seconds": "seconds of an idle refresh",
    }
    figure, axes = pyplot.subplots(1, len(panels), figsize=(13, 2.9), layout="constrained")
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        axis.plot([row["crops"] for row in rows], [row[key] for row in rows], "o-", color="#1f5fa8")
        axis.set(title=title, xlabel="crops", ylim=(0, 1.25 * max(row[key] for row in rows)))
        if key == "peak_mb":
            axis.plot([row["crops"] for row in rows], [row["before_mb"] for row in rows], "--", color="#8a8a8a")
            axis.text(rows[-1]["crops"], rows[-1]["before_mb"] - 40, "before the start", ha="right", va="top")
        axis.spines[["top", "right"]].set_visible(False)
        axis.ticklabel_format(axis="x", style="plain")
    figure.savefig(picture, dpi=110)
    print(f"picture: {picture}")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, nargs="+", default=[5_000, 20_000, 50_000])
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    rows = []
    for crops in options.crops:
        with ProcessPoolExecutor(1, get_context("fork")) as alone, tempfile.TemporaryDirectory() as folder:
            rows.append(alone.submit(run, Path(folder), crops).result())
        print(json.dumps(rows[-1]), flush=True)
    draw(rows, options.picture)


if __name__ == "__main__":
    main()
