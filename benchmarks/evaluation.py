"""Cityscapes AP and COCO AP on a val-sized load, ours beside the official scripts in the same run.

The load is 500 id maps of 2048x1024 with 100 predicted masks each (shaken copies of instances, and strays), as RLE.
The official Cityscapes script reads a PNG for every prediction and takes about half a second a frame, so it runs on the
first few frames only; the ratio is per frame, and on those frames both must agree to 1e-12.

python benchmarks/evaluation.py --frames 500 --official 10
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from instsynth_dagster.cityscapes import CLASSES, LABEL_BY_NAME
from instsynth_dagster.evaluation.coco_ap import coco_average_precision
from instsynth_dagster.evaluation.instance_ap import average_precision, match_frame
from instsynth_dagster.masks import decode_rle, encode_rle

SIZE = (1024, 2048)
Frame = tuple[np.ndarray, pd.DataFrame]
R = TypeVar("R")


def ellipse(
    rng: np.random.Generator, shift: float = 0.0, at: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """bool (H, W) with an ellipse of instance size, and its parameters (x, y, half width, half height)."""
    if at is None:
        at = np.array([rng.uniform(0, SIZE[1]), rng.uniform(300, 800), rng.uniform(6, 90), rng.uniform(8, 110)])
    x, y, width, height = at * (1 + shift * rng.normal(0, 1, 4) * [0.02, 0.02, 1, 1])
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, ((x, y), (2 * max(width, 2), 2 * max(height, 2)), float(rng.uniform(0, 20))), 1, -1)
    return mask.astype(bool), at


def frame(seed: int, predictions: int) -> Frame:
    rng = np.random.default_rng(seed)
    ids, placed = np.full(SIZE, LABEL_BY_NAME["road"].id, np.int32), []
    for index in range(int(rng.integers(12, 28))):
        name = str(rng.choice(CLASSES))
        mask, at = ellipse(rng)
        ids[mask] = LABEL_BY_NAME[name].id * 1000 + index
        placed.append((name, at))
    rows = []
    for _ in range(predictions):
        if rng.random() < 0.6:
            name, at = placed[int(rng.integers(len(placed)))]
            mask, _ = ellipse(rng, 0.1, at)
        else:
            name, (mask, _) = str(rng.choice(CLASSES)), ellipse(rng)
        if mask.any():
            rows.append((f"f{seed:04d}", name, float(rng.random()), encode_rle(mask)["counts"], *SIZE))
    columns = ["frame_id", "class_name", "score", "mask_counts", "mask_height", "mask_width"]
    return ids, pd.DataFrame(rows, columns=columns)


def timed(title: str, call: Callable[[], R], frames: int) -> tuple[R, float]:
    started = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    print(f"{title:34} {seconds:8.2f} s  {1000 * seconds / frames:8.2f} ms a frame", flush=True)
    return result, seconds / frames


def official_ap(frames: list[Frame], folder: Path) -> tuple[float, float, float]:
    """AP and AP50 of the official script, and its seconds; writing the PNGs that it reads is not counted."""
    # NumPy 2.4 lacks in1d, and its count_nonzero gives a number that json does not know
    vars(np)["in1d"] = np.isin
    count_nonzero, vars(np)["count_nonzero"] = np.count_nonzero, lambda array: int(np.sum(array != 0))
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    truths, predicted = [], []
    for index, (ids, table) in enumerate(frames):
        path = folder / f"a_{index:06d}_000000_gtFine_instanceIds.png"
        Image.fromarray(ids.astype(np.uint16)).save(path)
        lines = []
        for number, row in enumerate(table.itertuples()):
            mask = decode_rle({"size": list(SIZE), "counts": row.mask_counts})
            Image.fromarray(mask.astype(np.uint8)).save(folder / f"{index}_{number}.png", compress_level=0)
            lines.append(f"{index}_{number}.png {LABEL_BY_NAME[row.class_name].id} {row.score!r}")
        prediction = folder / f"a_{index:06d}_000000.txt"
        prediction.write_text("\n".join(lines))
        truths.append(str(path))
        predicted.append(str(prediction))
    options = copy.copy(script.args)
    options.JSONOutput, options.quiet = False, True
    options.gtInstancesFile, options.predictionPath = str(folder / "truth.json"), str(folder)
    here = Path.cwd()
    os.chdir(folder)  # the script leaves matches.json where it is called
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = script.evaluateImgLists(predicted, truths, options)
    finally:
        os.chdir(here)
        vars(np)["count_nonzero"] = count_nonzero
    seconds = time.perf_counter() - started
    return result["averages"]["allAp"], result["averages"]["allAp50%"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--predictions", type=int, default=100, help="per frame")
    parser.add_argument("--official", type=int, default=10, help="frames for the official script")
    arguments = parser.parse_args()
    frames = [frame(seed, arguments.predictions) for seed in range(arguments.frames)]
    total = sum(len(table) for _, table in frames)
    print(f"{len(frames)} frames of {SIZE[1]}x{SIZE[0]}, {total} predicted masks")

    scores, ours = timed(
        "Cityscapes AP, ours", lambda: average_precision([match_frame(*pair) for pair in frames]), len(frames)
    )
    print(f"  AP {scores.ap:.6f}, AP50 {scores.ap50:.6f}")
    few = frames[: arguments.official]
    with tempfile.TemporaryDirectory() as folder:
        ap, ap50, seconds = official_ap(few, Path(folder))
    print(f"{'Cityscapes AP, official script':34} {seconds:8.2f} s  {1000 * seconds / len(few):8.2f} ms a frame")
    same = average_precision([match_frame(*pair) for pair in few])
    assert max(abs(same.ap - ap), abs(same.ap50 - ap50)) < 1e-12, (same, ap, ap50)
    print(f"  equal to 1e-12 on {len(few)} frames; official / ours: {seconds / len(few) / ours:.0f}x")

    timed("COCO AP, ours", lambda: coco_average_precision(frames), len(frames))


if __name__ == "__main__":
    main()
