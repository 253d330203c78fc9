"""What each step of the refinement does where the truth is known, and how fast it is.

Scenes are drawn with seeds that no demo city uses. Every instance of at least 300 px is given a label that is not what
was drawn: 1 to 3 px too wide or too narrow, shifted by up to 2 px; and some labels cover nothing at all ("phantoms", a
generator that drew only background). A step is judged by the mean mask IoU (a phantom counts 1 once nothing of it is
left, else 0) and the boundary F measure at 1 px of the drawn instances. Rows add one step at a time.

python benchmarks/refinement.py --scenes 24 --seeds 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.city import render_scene
from instsynth_dagster.refinement.boundary import boundary_f
from instsynth_dagster.refinement.features import build_extractor
from instsynth_dagster.refinement.prototypes import Prototypes
from instsynth_dagster.refinement.refine import LOST, refine_instances
from instsynth_dagster.refinement.refiners import build_refiner
from instsynth_dagster.refinement.support import dataset_prototypes
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import RefinementSettings, load_settings

SIZE = (512, 256)
MIN_AREA, PHANTOMS, ATTEMPTS = 300, 3, 60


@dataclass(frozen=True)
class Case:
    """A scene with given labels: `truth` and `given` int32 (H, W), the instances to refine, and which are phantoms."""

    image: np.ndarray
    truth: np.ndarray
    given: np.ndarray
    targets: list[int]
    phantoms: set[int]


def case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    scene = render_scene(seed, *SIZE)
    truth = scene.ids.astype(np.int32)
    given = truth.copy()
    values, areas = np.unique(truth[truth >= 1000], return_counts=True)
    targets = values[areas >= MIN_AREA].tolist()
    stuff = np.where(truth >= 1000, 0, truth)
    for value in targets:
        mask = truth == value
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(rng.integers(1, 4)) + 1,) * 2)
        change = cv2.dilate if rng.random() < 0.5 else cv2.erode
        changed = np.roll(change(mask.astype(np.uint8), kernel), rng.integers(-2, 3, 2), (0, 1)).astype(bool)
        given[mask] = stuff[mask]
        given[changed & ((truth < 1000) | mask)] = value
    phantoms = {}
    for number in range(ATTEMPTS if targets else 0):
        value = int(rng.choice(targets))
        mask = np.roll(truth == value, (rng.integers(-30, 31), rng.integers(-200, 201)), (0, 1))
        name = value // 1000 * 1000 + 900 + number
        if len(phantoms) < PHANTOMS and not (given[mask] >= 1000).any():
            given[mask] = name
            phantoms[name] = mask
    targets = [value for value in [*targets, *phantoms] if (given == value).sum() >= MIN_AREA // 2]
    return Case(scene.image, truth, given, targets, set(phantoms))


def scored(case_: Case, ids: np.ndarray, lost: set[int]) -> Iterator[tuple[float, float]]:
    """IoU and boundary F (nan for phantoms) of each target."""
    for value in case_.targets:
        ours = (ids == value) if value not in lost else np.zeros(ids.shape, bool)
        if value in case_.phantoms:
            yield float(not ours.any()), np.nan
        else:
            truth = case_.truth == value
            yield (ours & truth).sum() / max((ours | truth).sum(), 1), boundary_f(ours, truth, 1.0)


def steps(settings: RefinementSettings) -> dict[str, tuple[bool, bool, RefinementSettings]]:
    """Name -> (with prototypes, with a refiner, settings)."""
    unclear = settings.model_copy(update={"margin": 10.0})  # nothing is clear enough to be relabelled
    return {
        "given": (False, False, settings),
        "APF": (True, False, unclear),
        "APF + APR": (True, False, settings),
        "APF + APR + SABR": (True, True, settings),
        "SABR alone": (False, True, settings),
    }


def ablation(settings: RefinementSettings, scenes: int, seeds: int) -> None:
    extract = build_extractor(settings.features, "cpu")
    refiner = build_refiner(settings.boundary, "cpu") if settings.boundary else None
    support = (render_scene(content_seed("refinement support", n), *SIZE) for n in range(settings.support_frames))
    known: Prototypes = dataset_prototypes(
        ((s.image, s.ids.astype(np.int32)) for s in support), extract, CITYSCAPES.classes, labels=CITYSCAPES
    )
    print(f"{'':18} {'mask IoU':>16} {'drawn only':>16} {'boundary F':>16} {'phantoms gone':>14} {'lost':>6}")
    for name, (with_prototypes, with_refiner, chosen) in steps(settings).items():
        rows = []
        for seed in range(seeds):
            found, gone, lost_drawn = [], [], 0
            for number in range(scenes):
                one = case(content_seed("refinement benchmark", seed, number))
                features = extract(one.image) if with_prototypes else None
                done = refine_instances(
                    one.image,
                    one.given,
                    one.targets,
                    features,
                    known if with_prototypes else None,
                    refiner if with_refiner else None,
                    chosen,
                    labels=CITYSCAPES,
                )
                lost = {row["value"] for row in done.records if row["verdict"] == LOST}
                lost_drawn += len(lost - one.phantoms)
                gone += [value in lost or not (done.ids == value).any() for value in one.phantoms]
                found += list(scored(one, done.ids, lost))
            table = np.array(found)
            drawn = ~np.isnan(table[:, 1])
            rows.append(
                [
                    table[:, 0].mean(),
                    table[drawn, 0].mean(),
                    table[drawn, 1].mean(),
                    np.mean(gone or [np.nan]),
                    lost_drawn,
                ]
            )
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) if seeds > 1 else np.zeros(5)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean[:3], spread[:3], strict=True)]
        print(f"{name:18} {cells[0]:>16} {cells[1]:>16} {cells[2]:>16} {mean[3]:>13.0%} {mean[4]:>7.1f}", flush=True)


def speed(settings: RefinementSettings, crops: int, side: int = 128) -> None:
    extract = build_extractor(settings.features, "cpu")
    refiner = build_refiner(settings.boundary, "cpu") if settings.boundary else None
    cases = []
    for number in range(10_000):
        one = case(content_seed("refinement speed", number))
        for value in one.targets:
            rows, columns = np.nonzero(one.given == value)
            y = int(np.clip(rows.mean() - side / 2, 0, SIZE[1] - side))
            x = int(np.clip(columns.mean() - side / 2, 0, SIZE[0] - side))
            part = (slice(y, y + side), slice(x, x + side))
            cases.append((one.image[part], one.given[part], value))
        if len(cases) >= crops:
            break
    known = dataset_prototypes(
        ((image, ids) for image, ids, _ in cases[:20]), extract, CITYSCAPES.classes, labels=CITYSCAPES
    )
    started = time.perf_counter()
    for image, ids, value in cases[:crops]:
        refine_instances(image, ids, [value], extract(image), known, refiner, settings, labels=CITYSCAPES)
    print(f"{crops} crops of {side} px, features, APF, APR and SABR: {time.perf_counter() - started:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", default="profiles/refined.yaml")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crops", type=int, default=200, help="that are timed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = load_settings(Path(arguments.params)).refinement
    assert settings is not None, f"{arguments.params} has no section refinement"
    speed(settings, arguments.crops)
    ablation(settings, arguments.scenes, arguments.seeds)


if __name__ == "__main__":
    main()
