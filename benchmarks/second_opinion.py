"""CLIP or a segmenter: which of the two gates lets the more useful repaintings pass, where both let as many pass.

The profile is refreshed without gates; the thresholds of `min_class_margin` and `min_mask_iou` are then those at which
each accepts the same number of its crops. The arm of the generator is trained with each of them and without a gate;
what is rejected keeps its original pixels, so all have equally many windows. It can be resumed.

python benchmarks/second_opinion.py --out build/second_opinion --accepted 0.5
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from assets import build_graph
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.settings import load_settings

KEYS = {"class_margin": "min_class_margin", "mask_iou": "min_mask_iou"}
"""Settings of the gates by their scores."""


def written(out: Path, raw: Mapping[str, Any], gates: Mapping[str, float], name: str) -> Path:
    """A params file below `out` for these gates, in one store for all of them."""
    folders = {"root": str(out / "artifacts"), "exports": None, "results": str(out / name)}
    path = out / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**raw, "artifacts": folders, "gates": dict(gates)}))
    return path


def run(job: str, params: Path, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"INSTSYNTH_PARAMS": str(params), "DAGSTER_HOME": str(home.resolve())}
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "instsynth_dagster.definitions", "-j", job]
    subprocess.run(command, env=environment, check=True)


def scores(params: Path, generator: str) -> pd.DataFrame:
    """Scores of all crops that did not fail: class_name, class_margin, mask_iou."""
    settings = load_settings(params)
    store, graph = Store(settings.artifacts.root), build_graph(settings)
    tables = []
    for partition in graph[f"{generator}/crop_quality"].partitions:
        quality = store.read(f"{generator}/crop_quality", partition)
        if len(quality):
            ious = store.read(f"{generator}/mask_agreement", partition)
            both = quality.merge(ious, on=["instance_id", "replica"], validate="one_to_one")
            tables.append(both.assign(class_name=partition.split("|")[1]))
    found = pd.concat(tables, ignore_index=True)
    return found[found["failure"] == ""]


def threshold(values: pd.Series, accepted: int) -> float:
    """The bound that as many values reach, as far as no two are equal."""
    return float(np.sort(values)[-accepted])


def measured(params: Path, generator: str) -> list[float]:
    """AP of the generator's arm with each training seed."""
    settings = load_settings(params)
    store = Store(settings.artifacts.root)
    runs = [f"{generator}-s{seed}|{name}" for seed in settings.training_seeds for name in settings.segmenters]
    return [100 * store.require("segmentation_scores", run).summary["ap"] for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("profiles/second_opinion.yaml"))
    parser.add_argument("--out", type=Path, default=Path("build/second_opinion"))
    parser.add_argument("--accepted", type=float, default=0.5, help="share of the crops that each gate lets pass")
    parser.add_argument("--frames", type=int, help="of each city, in place of the profile's")
    parser.add_argument("--steps", type=int, help="of each training, in place of the profile's")
    asked = parser.parse_args()
    raw = yaml.safe_load(asked.params.read_text())
    raw["dataset"] |= {"root": str(asked.out / "data")}
    if asked.frames:
        raw["dataset"]["demo_city"]["frames_per_city"] = asked.frames
    if asked.steps:
        for segmenter in raw["segmenters"].values():
            segmenter["steps"] = asked.steps
    (generator,) = raw["generators"]
    home = asked.out / ".dagster"
    unjudged = written(asked.out, raw, {}, "no_gate")
    run("synthesize", unjudged, home)
    found = scores(unjudged, generator)
    number = min(round(asked.accepted * len(found)), int((found["mask_iou"] > 0).sum()))
    bounds = {score: threshold(found[score], number) for score in KEYS}
    passed = {score: found[score] >= bound for score, bound in bounds.items()}
    results = {}
    for score in (None, *KEYS):
        gates = {} if score is None else {KEYS[score]: bounds[score]}
        params = written(asked.out, raw, gates, "no_gate" if score is None else score)
        run("evaluate", params, home)
        results["no gate" if score is None else score] = measured(params, generator)
        if score is None:
            results["real"] = measured(params, "real")
    by_class = found.assign(**{f"passed_{score}": mask for score, mask in passed.items()}).groupby("class_name")
    table = by_class.agg(
        crops=("replica", "size"),
        clip_accepts=("passed_class_margin", "sum"),
        masks_accept=("passed_mask_iou", "sum"),
        mean_iou=("mask_iou", "mean"),
    )
    print(table.round(2).to_string())
    both = int((passed["class_margin"] & passed["mask_iou"]).sum())
    result = ", ".join(
        f"{KEYS[score]} {bound:.3f} accepts {int(passed[score].sum())}" for score, bound in bounds.items()
    )
    print(f"{len(found)} crops; {result}; both accept {both}")
    for name, values in results.items():
        print(f"{name:13} AP {np.mean(values):.2f}  by seed {', '.join(f'{value:.2f}' for value in values)}")
    result = {"bounds": bounds, "crops": len(found), "both": both, "ap": results}
    (asked.out / "second_opinion.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
