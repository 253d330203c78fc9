"""The whole of `profiles/cityscapes.yaml` with models of random weights: what a first run on real weights would meet.

Every model of the profile is built in the layout of the hub, into a hub cache of its own; then `make doctor` and the
refresh run as a user runs them, with no network, on two frames and with two steps of everything.

python benchmarks/first_run.py --small --device cpu      narrow models, for every machine
python benchmarks/first_run.py                           published sizes: a GPU, about 25 GB of disk

What it does not show: whether weights that others trained paint and segment well, the Inception network of FID (the
judge's CLIP takes its place here), and the hub itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hub_models import write_cache

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.demo.city.frames import write_demo_city
from instsynth_dagster.doctor.required import required_models
from instsynth_dagster.models.references import hub_reference
from instsynth_dagster.settings import DemoCitySettings, Settings

PROFILE = Path("profiles/cityscapes.yaml")
CACHE, PARAMS = "hub", "params.yaml"
STEPS = 2
_DECODER = {"num_attention_heads": 4, "decoder_layers": 2, "train_num_points": 64}
_TRANSFORMER = {"encoder_layers": 1, "encoder_feedforward_dim": 32, "dim_feedforward": 32}
NARROW: dict[str, dict[str, Any]] = {
    "fastinst": _DECODER | {"hidden_dim": 32, "pyramid_dim": 16, "feedforward_dim": 32, "num_queries": 10},
    "mask2former": _DECODER | _TRANSFORMER | {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32},
    "oneformer": _DECODER
    | _TRANSFORMER
    | dict.fromkeys(("hidden_dim", "conv_dim", "mask_dim", "text_encoder_width"), 64)
    | {"num_queries": 40, "text_encoder_num_layers": 1},
}
"""Architectures of segmenters with `--small`, by kind."""


def shortened(raw: dict[str, Any], place: Path, small: bool, device: str) -> dict[str, Any]:
    """The profile with two frames and two steps; `small` also makes pictures small."""
    raw["device"] = device
    raw["artifacts"] = {name: str(place / name) for name in ("root", "exports", "results")}
    raw["dataset"] |= {"root": str(place / "data"), "train_cities": ["aachen"], "val_cities": ["munster"]}
    raw["selection"] |= {"k": 1, "min_area": 1}
    raw["judge"]["fid_features"] = "clip"
    raw["training_seeds"] = [0]
    raw["refinement"]["support_frames"] = 2
    for generator in raw["generators"].values():
        generator |= {"steps": STEPS + (generator.get("strength", 1.0) < 1), "replicas": 1, "batch_size": 1}
        generator |= {"size": 64} if small else {}
    for segmenter in raw["segmenters"].values():
        segmenter |= {"steps": STEPS, "batch_size": 2, "workers": 0, "checkpoint_every": STEPS}
        segmenter |= {"crop": [64, 128], "architecture": NARROW[segmenter["kind"]]} if small else {}
        if device == "cpu":
            segmenter["mixed_precision"] = "no"
    if small:
        raw["integration"]["window_size"] = [128, 64]
    return raw


def pin_what_was_built(raw: dict[str, Any], cache: Path) -> None:
    """The digests of the built files in place of the published ones."""
    for generator in raw["generators"].values():
        if "weights" in generator:
            reference = hub_reference(generator["model"])
            place = cache / f"models--{reference.name.replace('/', '--')}" / "snapshots" / reference.revision
            generator["weights"] = {name: file_sha256(place / name) for name in generator["weights"]}


def environment_of(place: Path) -> dict[str, str]:
    """What makes commands work in a folder of this benchmark, without a network."""
    return {
        "INSTSYNTH_PARAMS": str(place / PARAMS),
        "DAGSTER_HOME": str(place / "home"),
        "HF_HUB_CACHE": str(place / CACHE),
        "HF_HUB_OFFLINE": "1",
    }


def write_frames(root: Path, width: int, height: int) -> None:
    """Two drawn frames of a train city, and two of a val city."""
    drawn = DemoCitySettings(width=width, height=height, frames_per_city=2)
    for split, city in (("train", "aachen"), ("val", "munster")):
        write_demo_city(root, split, city, drawn)


def run(command: list[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    done = subprocess.run([sys.executable, *command], env=os.environ | environment, check=False)
    if done.returncode:
        raise SystemExit(f"first_run: {' '.join(command)} ended with {done.returncode}")
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="narrow models and small pictures")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument(
        "--keep", type=Path, help="a folder to work in, which stays; models in it are taken as they are"
    )
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        place = given.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        cache = place / CACHE
        raw = shortened(yaml.safe_load(PROFILE.read_text()), place, given.small, given.device)
        started = time.monotonic()
        write_cache(cache, required_models(Settings.model_validate(raw)), given.small)
        pin_what_was_built(raw, cache)
        built = time.monotonic() - started
        write_frames(place / "data", *((256, 128) if given.small else (2048, 1024)))
        (place / PARAMS).write_text(yaml.safe_dump(raw))
        (place / "home").mkdir(exist_ok=True)
        environment = environment_of(place)
        examined = run(["-m", "jobs.doctor"], environment)
        job = ["-m", "dagster", "job", "execute", "-m", "instsynth_dagster.definitions", "-j", "refresh"]
        refreshed = run(job, environment)
        print(f"models built in {built:.0f} s, doctor {examined:.0f} s, refresh {refreshed:.0f} s")


if __name__ == "__main__":
    main()
